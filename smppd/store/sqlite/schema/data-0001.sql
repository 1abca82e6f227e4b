-- data.db, version 1. The log (for as long as retention says) and the spool (for as long as a message is on its way).
-- A log row is one commit: its packed, sealed records, the events of the same moment, and the digest chain after it. seq is
-- drawn from the same time-ordered ids as the records, after them, so every insert is an append and the row of a record is
-- the first one whose seq is above its id.
CREATE TABLE log (
    seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, records BLOB NOT NULL, events BLOB NOT NULL, chain BLOB NOT NULL
);
CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY, signed BLOB NOT NULL);
CREATE TABLE spool (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE cold (
    kind INTEGER NOT NULL, owner TEXT NOT NULL, key BLOB NOT NULL, id INTEGER NOT NULL,
    expires INTEGER NOT NULL, segment INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (kind, owner, key, id)
) WITHOUT ROWID;
CREATE INDEX cold_expires ON cold (kind, expires);
-- Indexes over the log, built behind it: sorted segments (blind index -> record id; record id -> rows that tell of it) over
-- the rows first..last, each cut into buckets by key so that building, merging and reading one stays a small piece of work.
-- low: the lowest record id in it. Level 1 is merged from level 0.
CREATE TABLE number_index (
    first INTEGER NOT NULL, last INTEGER NOT NULL, bucket INTEGER NOT NULL, level INTEGER NOT NULL, low INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX number_index_bucket ON number_index (bucket, level, last, first);
CREATE TABLE event_index (
    first INTEGER NOT NULL, last INTEGER NOT NULL, bucket INTEGER NOT NULL, level INTEGER NOT NULL, low INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX event_index_bucket ON event_index (bucket, level, last, first);
-- What the chain needs of records that were purged from a log row: (u32 place in the row | digest 32), in order of place.
CREATE TABLE purged (seq INTEGER PRIMARY KEY, digests BLOB NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
