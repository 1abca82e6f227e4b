-- keys.db, version 3. What this file knows of the others, each under a MAC: `log`, the newest seal of data.db, and `audit`, an
-- entry that audit.db must hold. So a file that was put back to an older copy does not fit the other two.
CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
