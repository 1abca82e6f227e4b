-- data.db, version 2. The row of keys.db's `secrets` that holds the record secrets of this log row: one of its own that was
-- written ahead (`store.sqlite.slots`), or, where this is NULL, the one with the same seq.
ALTER TABLE log ADD COLUMN secrets INTEGER;
