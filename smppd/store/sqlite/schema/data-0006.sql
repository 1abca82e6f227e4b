-- data.db, version 6. The register of consents (`consent.register_proof`), a purpose of its own with a retention of its own.
-- digest: keyed hash of all that was said, so that the same is there once. subject: keyed hash of account and number. scopes: 16
-- octets for each class and sender that it is about, likewise. withdrawn: epoch seconds, 0 for a consent that counts. until: when it
-- may be removed. sealed: the whole, under the register's own key.
CREATE TABLE IF NOT EXISTS consents (
    number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, account TEXT NOT NULL, subject BLOB NOT NULL, scopes BLOB NOT NULL,
    withdrawn INTEGER NOT NULL, until INTEGER NOT NULL, sealed BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS consents_subject ON consents (subject);
CREATE INDEX IF NOT EXISTS consents_account ON consents (account);
CREATE INDEX IF NOT EXISTS consents_until ON consents (until);
