-- One key, one digest, for ever (S5).
CREATE TABLE keys (
    key      BLOB PRIMARY KEY,
    purchase BLOB NOT NULL,
    digest   BLOB NOT NULL,
    sessions INTEGER NOT NULL
) WITHOUT ROWID;
-- Requests seen, by sender and id (S11).
CREATE TABLE replays (
    id    BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;
-- Who may ask. A revoked key stays, so that it is never enrolled again.
CREATE TABLE identities (
    fingerprint BLOB PRIMARY KEY,
    name        TEXT NOT NULL,
    wallet      TEXT NOT NULL,
    agents      TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    revoked_at  INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX identity_names ON identities (name) WHERE revoked_at IS NULL;
-- One-time tokens, by hash.
CREATE TABLE tokens (
    hash       BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    wallet     TEXT NOT NULL,
    agents     TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_by   BLOB
) WITHOUT ROWID;
-- The turn token of the share holder's run, and of the one before.
CREATE TABLE turns (
    wallet   TEXT PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    previous BLOB NOT NULL,
    current  BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE meta (head INTEGER NOT NULL);
INSERT INTO meta (head) VALUES (0);
PRAGMA user_version = 1;
