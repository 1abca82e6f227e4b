-- data.db, version 4. Documents: small things that commands and the daemon share beside the messages, each sealed under a key of
-- the installation (`vault.documents`): operators, their sessions, approvals, holds. until: epoch seconds, when it may be
-- removed. Numbers: the last one that was given to a document of a kind.
CREATE TABLE IF NOT EXISTS documents (kind TEXT NOT NULL, name TEXT NOT NULL, until INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, name))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_until ON documents (until);
CREATE TABLE IF NOT EXISTS document_numbers (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
-- data.db, version 4. The erasure journal: which records were asked to be erased (`erased`, by record id, never a number) by which
-- request (`erasures`). facts: JSON, in the clear, without anything of a person. parts: what is still to be erased of a record (1
-- numbers, 2 body, 0 nothing any more). after: not before this time (epoch seconds); hold: the hold that keeps it, 0 for none.
CREATE TABLE IF NOT EXISTS erasures (number INTEGER PRIMARY KEY AUTOINCREMENT, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS erased (
    record INTEGER PRIMARY KEY, erasure INTEGER NOT NULL, parts INTEGER NOT NULL, after INTEGER NOT NULL, hold INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS erased_due ON erased (after) WHERE parts > 0;
