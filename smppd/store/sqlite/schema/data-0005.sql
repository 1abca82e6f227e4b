-- data.db, version 5. Opt-outs: who wants no messages from whom. key: keyed hash of account, sender and number under the
-- installation's suppression key (`consent.suppression`); no number can be made of it. sender: `#` and a keyed hash of it, or
-- `*` for any sender of the account. at: epoch seconds. source: by which word or command.
CREATE TABLE IF NOT EXISTS opt_outs (
    key BLOB PRIMARY KEY, account TEXT NOT NULL, sender TEXT NOT NULL, at INTEGER NOT NULL, source TEXT NOT NULL
) WITHOUT ROWID;
-- Messages of handsets that look like a refusal and wait for a person. record: of the message; key: what would be suppressed.
CREATE TABLE IF NOT EXISTS doubts (
    record INTEGER PRIMARY KEY, key BLOB NOT NULL, account TEXT NOT NULL, sender TEXT NOT NULL, at INTEGER NOT NULL
);
