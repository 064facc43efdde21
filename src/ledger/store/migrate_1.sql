-- Version 1 to version 2, the last window signed under each nonce (M1.4), and a co-signer's counters (S4).
-- A version 1 ledger is a proxy's, so what it did not know is empty; the columns stand in the order of the schema.

ALTER TABLE purchases ADD COLUMN last_valid_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE purchases ADD COLUMN identity TEXT;
ALTER TABLE purchases ADD COLUMN unverified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE purchases ADD COLUMN ticket BLOB;
UPDATE purchases SET last_valid_before = valid_before;
ALTER TABLE postings ADD COLUMN wallet BLOB;
ALTER TABLE postings ADD COLUMN payee BLOB;
ALTER TABLE postings ADD COLUMN identity TEXT;
ALTER TABLE postings ADD COLUMN unverified INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 2;
