//! flock on `ledger.lock` (M1.9).
