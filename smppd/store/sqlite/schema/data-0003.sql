-- data.db, version 3. What could not be handled, or does not open, and was set aside so that it stops nothing else: one row
-- an item. kind: what it is; owner: lane, account or upstream as it was found, empty where that cannot be told; id: of the
-- message, mail or receipt, 0 likewise; place: where it was met; reason: the kind of error; at, until: epoch seconds, from and
-- to which it is kept. form: how `data` is to be read (`store.sqlite.damaged`); row: the spool's row or the kind of cold row it was.
CREATE TABLE damaged (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, owner TEXT NOT NULL, id INTEGER NOT NULL,
    place TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL,
    form INTEGER NOT NULL, row INTEGER NOT NULL, segment INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX damaged_segment ON damaged (segment);
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
