-- Version 1: what the relay needs of a store (`store.api`). All sealed as in the embedded store; integers are as there too.
--
-- Nodes: one row for each smppd that ever worked on this database. node: the six bits of its ids (`smppd.ids`). name: for people.
-- epoch: rises with each start and each take-over; who has an older one commits nothing. The row is locked by each commit and
-- never rewritten by one: while somebody reads for long, every version of a row would stay and be passed by whoever looks for it.
CREATE TABLE nodes (
    node integer PRIMARY KEY CHECK (node BETWEEN 0 AND 63), name text NOT NULL, epoch bigint NOT NULL
);
-- Commits that have neither a log row nor a block: what tells of them is their number within the run (`commit_plain`).
CREATE TABLE commits (node integer, epoch bigint, sequence bigint, PRIMARY KEY (node, epoch, sequence));

-- Wrapped keys by scope, and the record secrets of each log row, in the order of its records. keys.node: who made it; the tidying of
-- that node destroys it where it is a segment's.
CREATE TABLE keys (scope bytea PRIMARY KEY, wrapped bytea NOT NULL, node integer);
CREATE TABLE secrets (node integer, seq bigint, data bytea NOT NULL, PRIMARY KEY (node, seq));

-- The log: a row a commit of a node, its packed records, the events of the same moment, and the node's digest chain after it. seq is
-- drawn from the ids of the records, after them, so of one node the row of a record is the first one whose seq is above its id; the
-- node of a record is in its id. Seals: signed states of a node's chain (`vault.chain.Seal`). State: what is known beside them of
-- the chain and of the node's audit trail, each under a MAC.
CREATE TABLE log (
    node integer, seq bigint, count integer NOT NULL, records bytea NOT NULL, events bytea NOT NULL, chain bytea NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE TABLE seals (node integer, number bigint, seq bigint NOT NULL, signed bytea NOT NULL, PRIMARY KEY (node, number));
CREATE INDEX seals_seq ON seals (node, seq);
CREATE TABLE state (node integer, name text, value bytea NOT NULL, PRIMARY KEY (node, name));

-- The journal of each node: a row a commit, sealed under the key of its segment with the counter as nonce. The last six bits of a
-- segment's number are the node's.
CREATE TABLE journal (
    node integer, segment integer, counter bigint, data bytea NOT NULL, PRIMARY KEY (node, segment, counter)
);

-- Cold rows. node: who holds it, NULL for nobody.
CREATE TABLE cold (
    kind integer, owner text COLLATE "C", key bytea, id bigint, expires bigint NOT NULL, segment integer NOT NULL, node integer,
    data bytea NOT NULL, PRIMARY KEY (kind, owner, key, id)
);
CREATE INDEX cold_expires ON cold (kind, expires);
CREATE INDEX cold_segment ON cold (segment);

-- What could not be handled, or does not open, set aside. The columns are those of the embedded store (data.db, version 3).
CREATE TABLE damaged (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, node integer NOT NULL, kind text NOT NULL, owner text NOT NULL,
    id bigint NOT NULL, place text NOT NULL, reason text NOT NULL, at bigint NOT NULL, until bigint NOT NULL, form integer NOT NULL,
    "row" bigint NOT NULL, segment integer NOT NULL, data bytea NOT NULL
);
CREATE INDEX damaged_segment ON damaged (segment);

-- Numbers that a node remembers; numbers that are given to one asker of all nodes only.
CREATE TABLE meta (node integer, name text, value bigint NOT NULL, PRIMARY KEY (node, name));
CREATE TABLE counters (name text PRIMARY KEY, next bigint NOT NULL CHECK (next >= 0));

-- Opt-outs, and messages of handsets that wait for a person (data.db, version 5).
CREATE TABLE opt_outs (
    key bytea PRIMARY KEY, account text NOT NULL, sender text NOT NULL, at bigint NOT NULL, source text NOT NULL
);
CREATE TABLE doubts (
    record bigint PRIMARY KEY, key bytea NOT NULL, account text NOT NULL, sender text NOT NULL, at bigint NOT NULL
);

-- What is sealed cannot be compressed: not to try saves the server a third of its work for a big batch.
ALTER TABLE secrets ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE log ALTER COLUMN records SET STORAGE EXTERNAL, ALTER COLUMN events SET STORAGE EXTERNAL;
ALTER TABLE journal ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE cold ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE damaged ALTER COLUMN data SET STORAGE EXTERNAL;

-- Begins a run of a node and gives its epoch: nobody commits under the earlier ones any more.
CREATE FUNCTION begin_node(p_node integer, p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    begun bigint;
BEGIN
    INSERT INTO nodes VALUES (p_node, p_name, 1)
        ON CONFLICT (node) DO UPDATE SET name = excluded.name, epoch = nodes.epoch + 1 RETURNING epoch INTO begun;
    DELETE FROM commits WHERE node = p_node;
    RETURN begun;
END $$;

-- An ordinary batch: nothing but records, events and entries of the journal. True: it is stored now; false: it was stored already by
-- an earlier call, whose answer was lost, with the same values. SM001: another has begun in this node's place.
--
-- The node's row is locked until the transaction ends: a take-over, which raises the epoch, waits for a commit that is under way, and a
-- repeated call waits for the one before it. What tells whether it was stored is the batch's own first row; the same place with
-- something else in it is an error.
CREATE FUNCTION commit_plain(
    p_node integer, p_epoch bigint, p_sequence bigint,
    p_seq bigint, p_count integer, p_records bytea, p_events bytea, p_chain bytea, p_secrets bytea,
    p_segment integer, p_counter bigint, p_block bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    same boolean;
BEGIN
    PERFORM 1 FROM nodes WHERE node = p_node AND epoch = p_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the node was taken over' USING ERRCODE = 'SM001';
    END IF;
    IF p_seq IS NOT NULL THEN
        INSERT INTO log VALUES (p_node, p_seq, p_count, p_records, p_events, p_chain) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT chain = p_chain INTO same FROM log WHERE node = p_node AND seq = p_seq;
        ELSIF p_secrets IS NOT NULL THEN
            INSERT INTO secrets VALUES (p_node, p_seq, p_secrets);
        END IF;
    ELSIF p_block IS NULL THEN
        INSERT INTO commits VALUES (p_node, p_epoch, p_sequence) ON CONFLICT DO NOTHING;
        same := CASE WHEN FOUND THEN NULL ELSE true END;
        IF p_sequence % 1000 = 0 THEN
            DELETE FROM commits WHERE node = p_node AND epoch = p_epoch AND sequence < p_sequence - 1000;
        END IF;
    END IF;
    IF p_block IS NOT NULL AND same IS NULL THEN
        INSERT INTO journal VALUES (p_node, p_segment, p_counter, p_block) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT p_seq IS NULL AND data = p_block INTO same
                FROM journal WHERE node = p_node AND segment = p_segment AND counter = p_counter;
        END IF;
    END IF;
    IF same IS NULL THEN
        RETURN true;
    ELSIF same THEN
        -- Written, though it says the same: so this answer, too, waits for the replicas that a commit has to wait for.
        UPDATE nodes SET epoch = epoch WHERE node = p_node;
        RETURN false;
    END IF;
    RAISE EXCEPTION 'the place of a batch is taken' USING ERRCODE = 'SM003';
END $$;

-- Adds keys and destroys others. SM002: a scope has another key by now, and nothing is stored: what was sealed under ours would
-- never open.
CREATE FUNCTION put_keys(p_node integer, p_scopes bytea[], p_wrapped bytea[], p_gone bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    ours integer;
BEGIN
    IF p_scopes IS NOT NULL THEN
        INSERT INTO keys SELECT scope, wrapped, p_node FROM unnest(p_scopes, p_wrapped) AS made (scope, wrapped)
            ON CONFLICT (scope) DO NOTHING;
        SELECT count(*) INTO ours FROM unnest(p_scopes, p_wrapped) AS made (scope, wrapped)
            JOIN keys USING (scope, wrapped);
        IF ours <> cardinality(p_scopes) THEN
            RAISE EXCEPTION 'a key was made by another' USING ERRCODE = 'SM002';
        END IF;
    END IF;
    DELETE FROM keys WHERE scope = ANY (p_gone);
END $$;

-- Sets items aside; the oldest go where there are more than so many, or so many octets of them.
CREATE FUNCTION limit_damaged(p_most bigint, p_octets bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM damaged WHERE number <= (
        SELECT max(number) FROM (
            SELECT number, row_number() OVER newer AS items, sum(length(data)) OVER newer AS octets FROM damaged
            WINDOW newer AS (ORDER BY number DESC)
        ) AS kept WHERE items > p_most OR (octets > p_octets AND items > 1)
    )
$$;

-- A batch with anything else in it; what is NULL is not there. Each list is as many arrays as it has columns. A row that is put and
-- dropped in one batch is gone. No row, key or name stands twice in a list.
CREATE FUNCTION commit_batch(
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
    p_decided bigint[], p_segments integer[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT commit_plain(
        p_node, p_epoch, p_sequence, p_seq, p_count, p_records, p_events, p_chain, p_secrets, p_segment, p_counter, p_block
    ) THEN
        RETURN false;
    END IF;
    IF p_scopes IS NOT NULL OR p_gone IS NOT NULL THEN
        PERFORM put_keys(p_node, p_scopes, p_wrapped, p_gone);
    END IF;
    IF p_seal IS NOT NULL THEN
        INSERT INTO seals VALUES (p_node, p_seal_number, p_seal_seq, p_seal);
    END IF;
    IF p_state_value IS NOT NULL THEN
        INSERT INTO state VALUES (p_node, p_state, p_state_value) ON CONFLICT (node, name) DO UPDATE SET value = excluded.value;
    END IF;
    IF p_cold_ids IS NOT NULL THEN
        INSERT INTO cold
            SELECT kind, owner, key, id, expires, p_cold_segment, p_node, data
            FROM unnest(p_cold_kinds, p_cold_owners, p_cold_keys, p_cold_ids, p_cold_expires, p_cold_data)
                AS put (kind, owner, key, id, expires, data)
            ON CONFLICT (kind, owner, key, id) DO UPDATE
                SET expires = excluded.expires, segment = excluded.segment, node = excluded.node, data = excluded.data;
    END IF;
    IF p_drop_ids IS NOT NULL THEN
        DELETE FROM cold USING unnest(p_drop_kinds, p_drop_owners, p_drop_keys, p_drop_ids) AS gone (kind, owner, key, id)
            WHERE cold.kind = gone.kind AND cold.owner = gone.owner AND cold.key = gone.key AND cold.id = gone.id;
    END IF;
    IF p_meta_names IS NOT NULL THEN
        INSERT INTO meta SELECT p_node, name, value FROM unnest(p_meta_names, p_meta_values) AS put (name, value)
            ON CONFLICT (node, name) DO UPDATE SET value = excluded.value;
    END IF;
    IF p_aside_ids IS NOT NULL THEN
        INSERT INTO damaged (node, kind, owner, id, place, reason, at, until, form, "row", segment, data)
            SELECT p_node, kind, owner, id, place, reason, at, until, 0, 0, p_aside_segment, data
            FROM unnest(p_aside_kinds, p_aside_owners, p_aside_ids, p_aside_places, p_aside_reasons, p_aside_at, p_aside_until,
                p_aside_data) AS item (kind, owner, id, place, reason, at, until, data);
        PERFORM limit_damaged(p_most, p_octets);
    END IF;
    IF p_opt_keys IS NOT NULL THEN
        INSERT INTO opt_outs
            SELECT * FROM unnest(p_opt_keys, p_opt_accounts, p_opt_senders, p_opt_at, p_opt_sources)
            ON CONFLICT (key) DO UPDATE SET account = excluded.account, sender = excluded.sender, at = excluded.at,
                source = excluded.source;
    END IF;
    IF p_lifted IS NOT NULL THEN
        DELETE FROM opt_outs WHERE key = ANY (p_lifted);
    END IF;
    IF p_doubt_records IS NOT NULL THEN
        INSERT INTO doubts
            SELECT * FROM unnest(p_doubt_records, p_doubt_keys, p_doubt_accounts, p_doubt_senders, p_doubt_at)
            ON CONFLICT (record) DO UPDATE SET key = excluded.key, account = excluded.account, sender = excluded.sender,
                at = excluded.at;
    END IF;
    IF p_decided IS NOT NULL THEN
        DELETE FROM doubts WHERE record = ANY (p_decided);
    END IF;
    IF p_segments IS NOT NULL THEN
        DELETE FROM journal WHERE node = p_node AND segment = ANY (p_segments);
    END IF;
    RETURN true;
END $$;

-- The first of so many numbers in a row that nobody else is given.
CREATE FUNCTION reserve(p_name text, p_count bigint) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO counters VALUES (p_name, p_count)
        ON CONFLICT (name) DO UPDATE SET next = counters.next + excluded.next RETURNING next - p_count
$$;
