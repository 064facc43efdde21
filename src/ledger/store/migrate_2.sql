-- Version 2 to version 3: what each payment is counted under beside its agent and entry. A co-signer's postings have no host and
-- stay as they are; a proxy's take it from their purchases.

ALTER TABLE purchases ADD COLUMN customer TEXT;
ALTER TABLE postings ADD COLUMN host TEXT;
ALTER TABLE postings ADD COLUMN session TEXT;
ALTER TABLE postings ADD COLUMN customer TEXT;
ALTER TABLE postings ADD COLUMN granted INTEGER NOT NULL DEFAULT 0;
UPDATE postings SET
    host = (SELECT host FROM purchases p WHERE p.num = postings.purchase),
    payee = (SELECT payee FROM purchases p WHERE p.num = postings.purchase),
    session = (SELECT session FROM purchases p WHERE p.num = postings.purchase)
    WHERE wallet IS NULL;

PRAGMA user_version = 3;
