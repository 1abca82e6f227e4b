-- data.db, version 3. What could not be handled, or does not open, and was set aside so that it stops nothing else: one row
-- an item. kind: what it is; owner: lane, account or upstream as it was found, empty where that cannot be told; id: of the
-- message, mail or receipt, 0 likewise; place: where it was met; reason: the kind of error; at, until: epoch seconds, from and
-- to which it is kept. form: how `data` is to be read (`store.damaged`); row: the spool's row or the kind of cold row it was.
CREATE TABLE damaged (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, owner TEXT NOT NULL, id INTEGER NOT NULL,
    place TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL,
    form INTEGER NOT NULL, row INTEGER NOT NULL, segment INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX damaged_segment ON damaged (segment);
