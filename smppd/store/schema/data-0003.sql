-- data.db, version 3. Seals: numbered, signed states of the log's chain (`vault.chain.Seal`); seq is the last log row that one
-- covers. They replace `checkpoints`, which keeps what version 1 and 2 wrote. mac: the purge that left these digests had the
-- chain's key.
CREATE TABLE seals (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, signed BLOB NOT NULL);
CREATE INDEX seals_seq ON seals (seq);
ALTER TABLE purged ADD COLUMN mac BLOB;
