-- data.db, version 3. Extents: what stretches of the log hold, as it was written, so that neither a search nor a purge has to
-- guess from a clock. Rows first..last; the lowest and highest record id in them (0: no records); the earliest and latest time
-- of acceptance (epoch ms); lead: by how much an id was ahead of the clock at worst (ms). Made with the indexes.
CREATE TABLE IF NOT EXISTS extents (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    earliest INTEGER NOT NULL, latest INTEGER NOT NULL, lead INTEGER NOT NULL
);
-- data.db, version 3. Seals: numbered, signed states of the log's chain (`vault.chain.Seal`); seq is the last log row that one
-- covers. They replace `checkpoints`, which keeps what version 1 and 2 wrote. mac: the purge that left these digests had the
-- chain's key.
CREATE TABLE seals (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, signed BLOB NOT NULL);
CREATE INDEX seals_seq ON seals (seq);
ALTER TABLE purged ADD COLUMN mac BLOB;
