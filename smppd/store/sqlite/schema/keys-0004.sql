-- keys.db, version 4. Records that a hold keeps. sealed: the keys of their parts, under the hold's own key (scope `hold/<number>`),
-- so that period keys and record secrets die on time for all others. source, destination: blind indexes under a key derived from
-- the hold's.
CREATE TABLE IF NOT EXISTS held (
    record INTEGER NOT NULL, hold INTEGER NOT NULL, source BLOB NOT NULL, destination BLOB NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (record, hold)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_hold ON held (hold, record);
-- By number, in what a hold keeps: an account's may be millions.
CREATE INDEX IF NOT EXISTS held_source ON held (hold, source);
CREATE INDEX IF NOT EXISTS held_destination ON held (hold, destination);
