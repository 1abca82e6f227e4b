-- keys.db, version 1. Wrapped keys by scope, and the record secrets of each log row, in the order of its records.
CREATE TABLE keys (scope BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE secrets (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
