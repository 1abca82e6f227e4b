-- Version 2. What is known of the log beside the log itself, and what commands share. The relay's commits touch none of it.

-- Facts by name: how far the indexes are, what a purge remembers (JSON). Numbers are decimal digits.
CREATE TABLE facts (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);

-- Tables in which dead rows are left that must not be found any more, each time that happened (`store.postgres.wiping`). Rows are
-- added only, so that nobody waits for anybody.
CREATE TABLE stains (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
-- One row that comes and goes: whether its dead version can be cleaned says whether all older ones can.
CREATE TABLE horizon (one integer NOT NULL);

-- Where a node's log begins, once its oldest rows were deleted: the last of them, and the link that the next one hangs on.
CREATE TABLE anchors (node integer PRIMARY KEY, seq bigint NOT NULL, chain bytea NOT NULL);

-- What the chain needs of records that were purged from a log row: (u32 place in the row | digest 32), in order of place. mac: the
-- purge that left them had the chain's key.
CREATE TABLE purged (seq bigint PRIMARY KEY, digests bytea NOT NULL, mac bytea);

-- Extents: what stretches of the log hold, as it was written. Rows first..last; the lowest and highest record id in them (0: no
-- records); the earliest and latest time of acceptance (epoch ms); lead: by how much an id was ahead of the clock at worst (ms).
CREATE TABLE extents (
    first bigint PRIMARY KEY, last bigint NOT NULL, low bigint NOT NULL, high bigint NOT NULL,
    earliest bigint NOT NULL, latest bigint NOT NULL, lead bigint NOT NULL
);

-- Indexes over the log, built behind it: sorted segments (blind index -> record id; record id -> rows that tell of it) over the rows
-- first..last, each cut into buckets by key. low: the lowest record id in it. Level 1 is merged from level 0. What is in them looks
-- random: to compress it would cost and save nothing.
CREATE TABLE number_index (
    handle bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first bigint NOT NULL, last bigint NOT NULL, bucket integer NOT NULL, level smallint NOT NULL, low bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE number_index ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX number_index_bucket ON number_index (bucket, level, last, first);
CREATE INDEX number_index_last ON number_index (last);
CREATE TABLE event_index (
    handle bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first bigint NOT NULL, last bigint NOT NULL, bucket integer NOT NULL, level smallint NOT NULL, low bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE event_index ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX event_index_bucket ON event_index (bucket, level, last, first);
CREATE INDEX event_index_last ON event_index (last);

-- Documents: small things that commands and the daemon share beside the messages, each sealed under a key of the installation.
-- until: epoch seconds, when it may be removed. Numbers: the last one that was given to a document of a kind.
CREATE TABLE documents (
    kind text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, until bigint NOT NULL, sealed bytea NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX documents_until ON documents (until);
CREATE TABLE document_numbers (kind text COLLATE "C" PRIMARY KEY, last bigint NOT NULL);

-- The erasure journal: which records were asked to be erased (`erased`, by record id, never a number) by which request
-- (`erasures`). facts: JSON, in the clear, without anything of a person. parts: what is still to be erased of a record (1 numbers,
-- 2 body, 4 index, 0 nothing any more). later: not before this time (epoch seconds); hold: the hold that keeps it, 0 for none.
CREATE TABLE erasures (number bigint PRIMARY KEY, facts text NOT NULL);
CREATE TABLE erased (
    record bigint PRIMARY KEY, erasure bigint NOT NULL, parts integer NOT NULL, later bigint NOT NULL, hold bigint NOT NULL
);
CREATE INDEX erased_due ON erased (record) WHERE parts > 0;
CREATE INDEX erased_of ON erased (erasure, record);

-- The register of consents. digest: keyed hash of all that was said, so that the same is there once. subject: keyed hash of account
-- and number. scopes: 16 octets for each class and sender that it is about, likewise. withdrawn: epoch seconds, 0 for a consent
-- that counts. until: when it may be removed. sealed: the whole, under the register's own key.
CREATE TABLE consents (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest bytea NOT NULL UNIQUE, account text COLLATE "C" NOT NULL,
    subject bytea NOT NULL, scopes bytea NOT NULL, withdrawn bigint NOT NULL, until bigint NOT NULL, sealed bytea NOT NULL
);
CREATE INDEX consents_subject ON consents (subject);
CREATE INDEX consents_account ON consents (account);
CREATE INDEX consents_until ON consents (until);

-- Records that a hold keeps. sealed: the keys of their parts, under the hold's own key (scope `hold/<number>`). source, destination:
-- blind indexes under a key derived from the hold's. How far a hold has come stands in rows of no record (0 and below).
CREATE TABLE held (
    record bigint NOT NULL, hold bigint NOT NULL, source bytea NOT NULL, destination bytea NOT NULL, sealed bytea NOT NULL,
    PRIMARY KEY (record, hold)
);
CREATE INDEX held_hold ON held (hold, record);
CREATE INDEX held_source ON held (hold, source);
CREATE INDEX held_destination ON held (hold, destination);

-- Wrapped keys are small and random, and stay in the table's own file.
ALTER TABLE keys ALTER COLUMN wrapped SET STORAGE MAIN;

-- As in version 1, and it stains: where a segment's key is destroyed, nothing of what it sealed is to be found either.
CREATE OR REPLACE FUNCTION put_keys(p_node integer, p_scopes bytea[], p_wrapped bytea[], p_gone bytea[]) RETURNS void
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
    IF cardinality(p_gone) > 0 THEN
        DELETE FROM keys WHERE scope = ANY (p_gone);
        INSERT INTO stains (name) VALUES ('keys'), ('journal'), ('cold'), ('damaged');
    END IF;
END $$;

-- For wiping alone, always NULL: a row is as long as wanted with it, so that its other value goes into the table's second file.
ALTER TABLE secrets ADD COLUMN room bytea;
ALTER TABLE log ADD COLUMN room bytea;
ALTER TABLE journal ADD COLUMN room bytea;
ALTER TABLE cold ADD COLUMN room bytea;
ALTER TABLE damaged ADD COLUMN room bytea;
ALTER TABLE keys ADD COLUMN room bytea;
ALTER TABLE secrets ALTER COLUMN room SET STORAGE PLAIN;
ALTER TABLE log ALTER COLUMN room SET STORAGE PLAIN;
ALTER TABLE journal ALTER COLUMN room SET STORAGE PLAIN;
ALTER TABLE cold ALTER COLUMN room SET STORAGE PLAIN;
ALTER TABLE damaged ALTER COLUMN room SET STORAGE PLAIN;
ALTER TABLE keys ALTER COLUMN room SET STORAGE PLAIN;

-- The server's statistics hold values of columns, as examples, and nothing that destroys a value would find it there.
ALTER TABLE keys ALTER COLUMN wrapped SET STATISTICS 0;
ALTER TABLE secrets ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE log ALTER COLUMN records SET STATISTICS 0, ALTER COLUMN events SET STATISTICS 0, ALTER COLUMN chain SET STATISTICS 0;
ALTER TABLE journal ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE cold ALTER COLUMN key SET STATISTICS 0, ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE damaged ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE number_index ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE event_index ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE documents ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE consents ALTER COLUMN digest SET STATISTICS 0, ALTER COLUMN subject SET STATISTICS 0, ALTER COLUMN scopes SET STATISTICS 0, ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE held ALTER COLUMN source SET STATISTICS 0, ALTER COLUMN destination SET STATISTICS 0, ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE opt_outs ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE doubts ALTER COLUMN key SET STATISTICS 0;

-- Fills the room that is free in a table's pages with rows of zeros, of each size until no page has room for it and the file grows; the
-- caller rolls back. p_columns, p_given: all columns but p_value and room, and what they are, in terms of n, which is negative and no
-- other row's. p_sizes: of p_value, descending. p_second: it is the table's second file that is filled, with values of these sizes.
CREATE FUNCTION fill_room(p_table text, p_columns text, p_given text, p_value text, p_sizes integer[], p_second boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    file oid := (SELECT CASE WHEN p_second THEN reltoastrelid ELSE oid END FROM pg_class WHERE oid = p_table::regclass);
    statement text := format(
        'INSERT INTO %I (%s, %I, room) SELECT %s, decode(repeat(''00'', $3), ''hex''), %s FROM generate_series($1, $2) AS n',
        p_table, p_columns, p_value, p_given,
        CASE WHEN p_second THEN $zeros$ decode(repeat('00', 2040), 'hex') $zeros$ ELSE 'NULL' END
    );
    size integer; rows bigint; at bigint := -1; room bigint; filled bigint; was bigint;
BEGIN
    IF file = 0 OR pg_relation_size(file) = 0 THEN
        RETURN;
    END IF;
    FOREACH size IN ARRAY p_sizes LOOP
        room := pg_relation_size(file);
        rows := least(100, greatest(4, room / (size + 28) / 8));
        filled := 0;
        WHILE filled <= room LOOP  -- there is no more than that
            was := pg_relation_size(file);
            EXECUTE statement USING at - rows + 1, at, size;
            at := at - rows;
            filled := filled + rows * (size + 28);
            EXIT WHEN pg_relation_size(file) > was;
        END LOOP;
    END LOOP;
END $$;
