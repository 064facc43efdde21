-- Version 3 (`migrate_1.sql` and `migrate_2.sql` make it of older ones). One row in `purchases` and one in `postings` per hold; both only ever grow.

CREATE TABLE meta (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,              -- counts batches: a smaller one than seen before is a restored copy
    last_at  INTEGER NOT NULL               -- latest ledger time handed out, ms
) STRICT;
INSERT INTO meta VALUES (1, 1, 0);

-- What was bought. `num` is given by the program, so that a hold appends to every tree it touches.
CREATE TABLE purchases (
    num            INTEGER PRIMARY KEY,
    id             BLOB NOT NULL,
    key            BLOB NOT NULL,
    agent          TEXT NOT NULL,
    session        TEXT,
    entry          TEXT NOT NULL,
    host           TEXT NOT NULL,
    method         TEXT NOT NULL,
    protocol       TEXT NOT NULL,
    accepted       TEXT NOT NULL,           -- the seller's entry, verbatim
    resource       TEXT,
    extensions     TEXT,
    chain          INTEGER NOT NULL,
    token          BLOB NOT NULL,
    symbol         TEXT NOT NULL,
    amount         TEXT NOT NULL,           -- atomic units, decimal
    payee          BLOB NOT NULL,
    payer          BLOB NOT NULL,
    nonce          BLOB NOT NULL,
    valid_after    INTEGER NOT NULL,        -- unix seconds
    valid_before   INTEGER NOT NULL,
    digest         BLOB NOT NULL,
    held           INTEGER NOT NULL,        -- micro-USD, the maximum over all signatures
    state          TEXT NOT NULL,
    signature      BLOB,                    -- a bearer secret until valid_before
    at             INTEGER NOT NULL,        -- ms
    consumed       INTEGER NOT NULL,
    lost_until     INTEGER,                 -- ms
    likeness       BLOB NOT NULL,           -- u64, little-endian
    lost_hold      INTEGER NOT NULL,        -- ms
    paid_redirects INTEGER NOT NULL,
    share          INTEGER NOT NULL,
    policy_digest  TEXT NOT NULL,
    claimed_tx     TEXT,
    last_valid_before INTEGER NOT NULL,     -- the largest valid_before signed under the nonce (M1.4)
    identity       TEXT,                    -- the following on a co-signer alone: who asked,
    unverified     INTEGER NOT NULL,        -- whether nothing proved the payee,
    ticket         BLOB,                    -- and the human approval it used
    customer       TEXT                     -- on a proxy: whom it is for, from the request's context
) STRICT;

-- Every counter is a sum over these. A release is a negative row in the period of what it gives back.
CREATE TABLE postings (
    num      INTEGER PRIMARY KEY,
    purchase INTEGER NOT NULL,              -- purchases.num
    agent    TEXT NOT NULL,
    entry    TEXT NOT NULL,
    at       INTEGER NOT NULL,              -- ms
    micro    INTEGER NOT NULL,
    kind     TEXT NOT NULL,                 -- hold, raise, release
    wallet   BLOB,                          -- the following on a co-signer alone: its further counters (S4)
    payee    BLOB,
    identity TEXT,
    unverified INTEGER NOT NULL,
    host     TEXT,                          -- the following on a proxy alone, and payee: its further counters
    session  TEXT,
    customer TEXT,
    granted  INTEGER NOT NULL DEFAULT 0     -- people said yes to a limit that it exceeds (M2.6)
) STRICT;

-- The payee of the first delivered purchase.
CREATE TABLE pins (
    agent TEXT NOT NULL,
    entry TEXT NOT NULL,
    host  TEXT NOT NULL,
    chain INTEGER NOT NULL,
    payee BLOB NOT NULL,
    PRIMARY KEY (agent, entry, host, chain)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 3;
