-- Version 3. Several nodes: leases, rows that nobody holds, take-over. An smppd of version 2 that runs works on: what it calls stays.
-- Oldest: 2

-- Which smppd may use what has this number, where it does not know it itself: those that know at least `oldest`. NULL: none.
ALTER TABLE schema_versions ADD COLUMN oldest integer;

-- How each node stands, as it says of itself or as who took it over does. epoch: as in `nodes`. beat: raised every two seconds while
-- life is `live`. life: `live`; `down`, it does not beat: it is starting, has ended, or is of version 2; `left`, it gave up what it
-- held; `taken`, another took it over, the heir. facts: a JSON object for the others; version rises with each.
CREATE TABLE leases (
    node integer PRIMARY KEY, epoch bigint NOT NULL, beat bigint NOT NULL, life text NOT NULL, heir integer, version bigint NOT NULL,
    facts bytea NOT NULL
);
INSERT INTO leases SELECT node, epoch, 0, 'down', NULL, 0, '' FROM nodes;

-- Rows of kinds that are only looked up (5: REPLY, 6: ERASED) are everybody's: nobody holds them. The others' are found by this index,
-- whose condition a query has to repeat.
UPDATE cold SET node = NULL WHERE kind IN (5, 6);
CREATE INDEX cold_nobodys ON cold (kind, owner, id) WHERE node IS NULL AND kind <> 5 AND kind <> 6;
-- Which keys of segments are whose: they change hands with a take-over.
CREATE INDEX keys_node ON keys (node) WHERE node IS NOT NULL;

-- What only a copy of an embedded store brings (docs/adr/0029): log rows that a version before 7 of it wrote, which name a row of `secrets`
-- of another id, and the signed states of before there were seals.
CREATE TABLE slots (seq bigint PRIMARY KEY, secrets bigint NOT NULL);
CREATE TABLE checkpoints (node integer, seq bigint, signed bytea NOT NULL, PRIMARY KEY (node, seq));

-- The scope of a segment's key (`vault.keys.segment_scope`).
CREATE FUNCTION segment_scope(p_segment integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to('segment/' || lpad(p_segment::text, greatest(6, length(p_segment::text)), '0'), 'UTF8')
$$;

-- As in version 1; the lease stands as that of a node that does not beat yet.
CREATE OR REPLACE FUNCTION begin_node(p_node integer, p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    begun bigint;
BEGIN
    INSERT INTO nodes VALUES (p_node, p_name, 1)
        ON CONFLICT (node) DO UPDATE SET name = excluded.name, epoch = nodes.epoch + 1 RETURNING epoch INTO begun;
    INSERT INTO leases VALUES (p_node, begun, 0, 'down', NULL, 0, '')
        ON CONFLICT (node) DO UPDATE SET epoch = begun, beat = 0, life = 'down', heir = NULL, facts = '',
            version = leases.version + 1;
    DELETE FROM commits WHERE node = p_node;
    RETURN begun;
END $$;

-- What a node does with rows it does in its place, which nobody takes until the transaction ends (as `commit_plain` has it).
CREATE FUNCTION hold_place(p_node integer, p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM nodes WHERE node = p_node AND epoch = p_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the node was taken over' USING ERRCODE = 'SM001';
    END IF;
END $$;

-- Inside of a transaction that has the right to: rows of a node are nobody's from then on, of one owner, so many at the most; how many.
CREATE FUNCTION give_up_rows(p_node integer, p_kind integer, p_owner text, p_most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    given integer;
BEGIN
    UPDATE cold SET node = NULL
        FROM (SELECT key, id FROM cold WHERE kind = p_kind AND owner = p_owner AND node = p_node LIMIT p_most) AS ours
        WHERE cold.kind = p_kind AND cold.owner = p_owner AND cold.key = ours.key AND cold.id = ours.id AND cold.node = p_node;
    GET DIAGNOSTICS given = ROW_COUNT;
    RETURN given;
END $$;

-- Gives up more than one batch may (`give_up_rows`), by a node that still has its place.
CREATE FUNCTION give_up(p_node integer, p_epoch bigint, p_kind integer, p_owner text, p_most integer) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_place(p_node, p_epoch);
    RETURN give_up_rows(p_node, p_kind, p_owner, p_most);
END $$;

-- A batch as `commit_batch` has it, and rows that are put for nobody to hold, owners whose rows are given up, and what the others are
-- told of both. A row that is dropped by the same batch is not among those that are put.
CREATE FUNCTION commit_shared(
    p_node integer, p_epoch bigint, p_sequence bigint,
    p_seq bigint, p_count integer, p_records bytea, p_events bytea, p_chain bytea, p_secrets bytea,
    p_segment integer, p_counter bigint, p_block bytea,
    p_scopes bytea[], p_wrapped bytea[], p_gone bytea[],
    p_seal_number bigint, p_seal_seq bigint, p_seal bytea, p_state text, p_state_value bytea,
    p_cold_segment integer, p_cold_kinds integer[], p_cold_owners text[], p_cold_keys bytea[], p_cold_ids bigint[],
    p_cold_expires bigint[], p_cold_data bytea[],
    p_drop_kinds integer[], p_drop_owners text[], p_drop_keys bytea[], p_drop_ids bigint[],
    p_meta_names text[], p_meta_values bigint[],
    p_aside_segment integer, p_aside_kinds text[], p_aside_owners text[], p_aside_ids bigint[], p_aside_places text[],
    p_aside_reasons text[], p_aside_at bigint[], p_aside_until bigint[], p_aside_data bytea[], p_most bigint, p_octets bigint,
    p_opt_keys bytea[], p_opt_accounts text[], p_opt_senders text[], p_opt_at bigint[], p_opt_sources text[], p_lifted bytea[],
    p_doubt_records bigint[], p_doubt_keys bytea[], p_doubt_accounts text[], p_doubt_senders text[], p_doubt_at bigint[],
    p_decided bigint[], p_segments integer[],
    p_shared_segment integer, p_shared_kinds integer[], p_shared_owners text[], p_shared_keys bytea[], p_shared_ids bigint[],
    p_shared_expires bigint[], p_shared_data bytea[],
    p_handed_kinds integer[], p_handed_owners text[], p_handed_most integer, p_notes text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT commit_batch(
        p_node, p_epoch, p_sequence, p_seq, p_count, p_records, p_events, p_chain, p_secrets, p_segment, p_counter, p_block,
        p_scopes, p_wrapped, p_gone, p_seal_number, p_seal_seq, p_seal, p_state, p_state_value,
        p_cold_segment, p_cold_kinds, p_cold_owners, p_cold_keys, p_cold_ids, p_cold_expires, p_cold_data,
        p_drop_kinds, p_drop_owners, p_drop_keys, p_drop_ids, p_meta_names, p_meta_values,
        p_aside_segment, p_aside_kinds, p_aside_owners, p_aside_ids, p_aside_places, p_aside_reasons, p_aside_at, p_aside_until,
        p_aside_data, p_most, p_octets,
        p_opt_keys, p_opt_accounts, p_opt_senders, p_opt_at, p_opt_sources, p_lifted,
        p_doubt_records, p_doubt_keys, p_doubt_accounts, p_doubt_senders, p_doubt_at, p_decided, p_segments
    ) THEN
        RETURN false;
    END IF;
    IF p_shared_ids IS NOT NULL THEN
        INSERT INTO cold
            SELECT kind, owner, key, id, expires, p_shared_segment, NULL, data
            FROM unnest(p_shared_kinds, p_shared_owners, p_shared_keys, p_shared_ids, p_shared_expires, p_shared_data)
                AS put (kind, owner, key, id, expires, data)
            ON CONFLICT (kind, owner, key, id) DO UPDATE
                SET expires = excluded.expires, segment = excluded.segment, node = excluded.node, data = excluded.data;
    END IF;
    IF p_handed_kinds IS NOT NULL THEN
        PERFORM give_up_rows(p_node, kind, owner, p_handed_most) FROM unnest(p_handed_kinds, p_handed_owners) AS handed (kind, owner);
    END IF;
    IF p_notes IS NOT NULL THEN
        PERFORM pg_notify('smppd', note) FROM unnest(p_notes) AS note;
    END IF;
    RETURN true;
END $$;

-- Rows of one owner that nobody holds are this node's from then on: these (all of them where p_ids is NULL), in order of ids, so many
-- at the most. What somebody else is taking at this moment is passed over. p_kind is none that is everybody's.
CREATE FUNCTION claim_rows(
    p_node integer, p_epoch bigint, p_kind integer, p_owner text, p_ids bigint[], p_most integer
) RETURNS TABLE (kind integer, owner text, key bytea, id bigint, expires bigint, segment integer, data bytea)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_place(p_node, p_epoch);
    RETURN QUERY WITH free AS MATERIALIZED (
        SELECT cold.key, cold.id FROM cold
            WHERE cold.kind = p_kind AND cold.owner = p_owner AND cold.node IS NULL AND cold.kind <> 5 AND cold.kind <> 6
                AND (p_ids IS NULL OR cold.id = ANY (p_ids))
            ORDER BY cold.id LIMIT p_most FOR UPDATE SKIP LOCKED
    )
    UPDATE cold SET node = p_node FROM free
        WHERE cold.kind = p_kind AND cold.owner = p_owner AND cold.key = free.key AND cold.id = free.id
        RETURNING cold.kind, cold.owner, cold.key, cold.id, cold.expires, cold.segment, cold.data;
END $$;

-- The same of rows at these places.
CREATE FUNCTION claim_places(
    p_node integer, p_epoch bigint, p_kind integer, p_owners text[], p_keys bytea[], p_ids bigint[]
) RETURNS TABLE (kind integer, owner text, key bytea, id bigint, expires bigint, segment integer, data bytea)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_place(p_node, p_epoch);
    RETURN QUERY WITH free AS MATERIALIZED (
        SELECT cold.owner, cold.key, cold.id FROM unnest(p_owners, p_keys, p_ids) AS place (owner, key, id)
            JOIN cold ON cold.kind = p_kind AND cold.owner = place.owner AND cold.key = place.key AND cold.id = place.id
            WHERE cold.node IS NULL ORDER BY cold.id FOR UPDATE OF cold SKIP LOCKED
    )
    UPDATE cold SET node = p_node FROM free
        WHERE cold.kind = p_kind AND cold.owner = free.owner AND cold.key = free.key AND cold.id = free.id
        RETURNING cold.kind, cold.owner, cold.key, cold.id, cold.expires, cold.segment, cold.data;
END $$;
