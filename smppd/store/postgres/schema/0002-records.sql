-- Version 2. What is known of the log beside the log itself, and what commands share. The relay's commits touch none of it.

-- Facts by name: how far the indexes are, what a purge remembers (JSON). Numbers are decimal digits.
CREATE TABLE facts (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);

-- Tables in which dead rows are left that must not be found any more, and how often that was said (`store.postgres.wiping`).
CREATE TABLE stains (name text COLLATE "C" PRIMARY KEY, times bigint NOT NULL);
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
