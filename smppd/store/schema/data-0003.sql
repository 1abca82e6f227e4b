-- data.db, version 3. Extents: what stretches of the log hold, as it was written, so that neither a search nor a purge has to
-- guess from a clock. Rows first..last; the lowest and highest record id in them (0: no records); the earliest and latest time
-- of acceptance (epoch ms); lead: by how much an id was ahead of the clock at worst (ms). Made with the indexes.
CREATE TABLE IF NOT EXISTS extents (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    earliest INTEGER NOT NULL, latest INTEGER NOT NULL, lead INTEGER NOT NULL
);
