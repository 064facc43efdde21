//! The store: restart, failure, lock, rollback, schema (M1.5, M1.9, M4.1).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::*;
use crate::payment::Signed;

fn other_connection(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join("ledger.db")).unwrap()
}

/// Makes every hold of method `FAIL` fail inside the transaction.
fn break_fail_holds(dir: &TempDir) {
    let sql = "CREATE TRIGGER broken BEFORE INSERT ON purchases WHEN NEW.method = 'FAIL' BEGIN SELECT RAISE(ABORT, 'disk'); END";
    other_connection(dir).execute_batch(sql).unwrap();
}

fn fail(key: u8) -> NewPurchase {
    NewPurchase { method: "FAIL".into(), ..new(key) }
}

async fn until_available(ledger: &Ledger) {
    let start = Instant::now();
    while !ledger.available() {
        assert!(start.elapsed() < Duration::from_secs(20), "the store never came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn secret_key() -> (k256::ecdsa::SigningKey, Payer) {
    let key = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let address = Address::from_public_key(key.verifying_key());
    (key, Payer(address))
}

pub(super) async fn signed_purchase(ledger: &Ledger, key: u8) -> (Commitment, [u8; 65]) {
    let (secret, payer) = secret_key();
    let mut commitment = buy_at(ledger, 5, NewPurchase { payer, ..new(key) }, T0).await;
    let request = commitment.sign_request(&usdc()).unwrap();
    let (signature, parity) = secret.sign_prehash_recoverable(request.authorization().digest().as_slice()).unwrap();
    let mut rsv = [0; 65];
    rsv[..64].copy_from_slice(&signature.to_bytes());
    rsv[64] = 27 + parity.to_byte();
    commitment.signed(&Signed::new(request.authorization().clone(), rsv).unwrap());
    (commitment, rsv)
}

#[tokio::test]
async fn a_restart_finds_everything_as_it_was_m1_5() {
    let (dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    let (signed, rsv) = signed_purchase(&ledger, 2).await;
    drop(signed);
    let mut settled = buy_at(&ledger, 3, like(3, &[1, u64::MAX]), T0.plus_secs(4000)).await;
    settled.sent();
    settled.outcome(Outcome::Settled, Some("0xabc".into()));
    drop(settled);
    buy(&ledger, 4, 4).await.consumed();
    buy(&ledger, 5, 5).await.void(DefinitelyUnsigned::attest());
    let (before, rates) = (snapshot(&ledger), commitments(&ledger));
    drop(ledger);
    let ledger = open(&dir);
    assert_eq!(snapshot(&ledger), before);
    assert_eq!(commitments(&ledger), rates, "a void purchase was a commitment too (M2.5)");
    assert_eq!(adopt(&ledger, 2, T0).purchase().signature, Some(rsv));
    let settled = adopt(&ledger, 3, T0);
    assert_eq!((settled.purchase().claimed_tx.as_deref(), &settled.purchase().likeness), (Some("0xabc"), &Likeness(vec![1, u64::MAX])));
    assert_eq!(settled.purchase().session, None);
}

#[tokio::test]
async fn a_signature_is_in_no_debug_output() {
    let (_dir, ledger) = fresh();
    let (commitment, rsv) = signed_purchase(&ledger, 1).await;
    let shown = format!("{commitment:?} {:?} {ledger:?} {}", commitment.purchase(), ledger.read(|b| format!("{b:?}")));
    for form in [format!("{:?}", &rsv[..4]).trim_matches(['[', ']']).to_owned(), alloy_primitives::hex::encode(&rsv[..8])] {
        assert!(!shown.contains(&form), "{shown}");
    }
}

#[tokio::test]
async fn a_failed_transaction_fails_its_batch_and_rolls_the_books_back_m4_1() {
    let (dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    break_fail_holds(&dir);
    let before = snapshot(&ledger);
    let reservation = ledger.reserve(approve(50, vec![]), fail(2), T0).unwrap();
    assert!(matches!(reservation.commit().await, Err(ReserveError::Unavailable)));
    assert_eq!((snapshot(&ledger), commitments(&ledger)), (before.clone(), 1));
    assert!(matches!(claim(&ledger, 2, T0), Claim::New));
    until_available(&ledger).await;
    drop(buy(&ledger, 2, 3).await);
    drop(ledger);
    assert_eq!(spent(&open(&dir), hour()), 3);
}

#[tokio::test]
async fn while_the_store_fails_nothing_is_held_and_status_is_not_forgotten_m1_9() {
    let (dir, ledger) = fresh();
    let mut open_purchase = buy(&ledger, 1, 1).await;
    let mut raised = buy(&ledger, 2, 2).await;
    let voided = buy(&ledger, 4, 3).await;
    let blocker = other_connection(&dir);
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    open_purchase.outcome(Outcome::Settled, None);
    voided.void(DefinitelyUnsigned::attest());
    let before = raised.purchase().digest;
    assert!(matches!(raised.resign(approve(9, vec![]).holding(MicroUsd::new(2)), 0, T0).await, Err(ReserveError::Unavailable)));
    assert_eq!((raised.purchase().digest, spent(&ledger, hour())), (before, 3));
    assert!(!ledger.available());
    assert!(matches!(ledger.reserve(approve(1, vec![]), new(4), T0), Err(ReserveError::Unavailable)));
    assert!(ledger.flush().await.is_err());
    blocker.execute_batch("ROLLBACK").unwrap();
    until_available(&ledger).await;
    ledger.flush().await.unwrap();
    let stored = Ledger::list(dir.path()).unwrap();
    assert_eq!(stored.iter().map(|p| p.state).collect::<Vec<_>>(), [PurchaseState::Settled, PurchaseState::Committed, PurchaseState::Void]);
    raised.resign(approve(9, vec![]).holding(MicroUsd::new(2)), 0, T0).await.unwrap();
    drop((open_purchase, raised, ledger));
    assert_eq!(spent(&open(&dir), hour()), 10);
}

#[tokio::test]
async fn a_second_process_does_not_get_the_ledger_m1_9() {
    let (dir, ledger) = fresh();
    let error = Ledger::open(&options(dir.path()), reading(0)).unwrap_err();
    assert!(matches!(&error, OpenError::Locked(path) if path.ends_with("ledger.lock")), "{error}");
    let held = buy(&ledger, 1, 1).await;
    drop(ledger);
    assert!(Ledger::open(&options(dir.path()), reading(0)).is_err(), "a commitment keeps it open");
    drop(held);
    open(&dir);
}

#[tokio::test]
async fn a_restored_copy_is_refused_m1_9() {
    let (dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    drop(ledger);
    let copy = fs::read(dir.path().join("ledger.db")).unwrap();
    drop(buy(&open(&dir), 1, 2).await);
    fs::write(dir.path().join("ledger.db"), &copy).unwrap();
    let error = Ledger::open(&options(dir.path()), reading(0)).unwrap_err();
    assert!(matches!(&error, OpenError::Rollback { found, seen, .. } if found < seen), "{error}");
    fs::remove_file(dir.path().join("ledger.db")).unwrap();
    for _ in 0..2 {
        let error = Ledger::open(&options(dir.path()), reading(0)).unwrap_err();
        assert!(matches!(&error, OpenError::Rollback { found: 0, .. }), "a deleted ledger is not a new one: {error}");
    }
}

#[tokio::test]
async fn the_head_follows_the_store_while_it_runs_m1_9() {
    let (dir, ledger) = fresh();
    let head = || fs::read_to_string(dir.path().join("ledger.head")).unwrap().trim().parse::<u64>().unwrap();
    let first = head();
    let mut commitment = buy(&ledger, 1, 1).await;
    commitment.sent();
    let start = Instant::now();
    while head() < first + 2 {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (stored,): (u64,) =
        other_connection(&dir).query_row("SELECT sequence FROM meta", [], |r| Ok((r.get::<_, i64>(0)?.cast_unsigned(),))).unwrap();
    assert!(head() <= stored);
}

#[test]
fn an_unknown_schema_is_refused_and_left_alone() {
    let (dir, ledger) = fresh();
    drop(ledger);
    other_connection(&dir).execute_batch("PRAGMA user_version = 4").unwrap();
    let error = Ledger::open(&options(dir.path()), reading(0)).unwrap_err();
    assert!(matches!(error, OpenError::Schema { found: 4, known: 3, .. }), "{error}");
    assert!(matches!(Ledger::list(dir.path()), Err(OpenError::Schema { found: 4, .. })));
    let foreign = tempfile::tempdir().unwrap();
    other_connection(&foreign).execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(Ledger::open(&options(foreign.path()), reading(0)), Err(OpenError::Schema { found: 0, .. })));
}

#[test]
fn a_memory_file_system_is_refused_unless_accepted_m1_9() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    if lock::refuse_memory(dir.path()).is_ok() {
        return;
    }
    let strict = Options { ephemeral_ok: false, ..options(dir.path()) };
    assert!(matches!(Ledger::open(&strict, reading(0)), Err(OpenError::Ephemeral(path)) if path == dir.path()));
    assert!(Ledger::open(&options(dir.path()), reading(0)).is_ok());
}

#[test]
fn a_damaged_row_stops_the_ledger() {
    let (dir, ledger) = fresh();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    drop(runtime.block_on(buy(&ledger, 1, 1)));
    drop(ledger);
    other_connection(&dir).execute_batch("UPDATE purchases SET nonce = zeroblob(32)").unwrap();
    let error = Ledger::open(&options(dir.path()), reading(0)).unwrap_err();
    assert!(matches!(&error, OpenError::Store { source, .. } if source.to_string().contains("nonce")), "{error}");
}

#[test]
fn a_missing_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Ledger::open(&options(&dir.path().join("absent")), reading(0)).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

#[tokio::test]
async fn files_are_for_their_owner_only_m1_6() {
    let (dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock", "ledger.head"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn the_last_recorded_time_survives_a_restart_m1_8() {
    let (dir, ledger) = fresh();
    drop(buy_at(&ledger, 1, new(1), T0.plus_secs(100)).await);
    drop(ledger);
    let behind = Ledger::open(&options(dir.path()), reading(0)).unwrap();
    assert!(matches!(behind.reserve(approve(1, vec![]), new(2), T0), Err(ReserveError::ClockUnsure)));
    assert_eq!(behind.clock(reading(71)), ClockState { now: T0.plus_secs(100), sure: true }, "the wall caught up");
    drop(behind);
    let accepted = Ledger::open(&Options { accept_clock: true, ..options(dir.path()) }, reading(0)).unwrap();
    assert_eq!(accepted.clock(reading(1)), ClockState { now: T0.plus_secs(1), sure: true });
}

#[tokio::test]
async fn a_reader_sees_the_purchases_beside_the_writer() {
    let (dir, ledger) = fresh();
    drop(buy(&ledger, 1, 1).await);
    buy(&ledger, 2, 2).await.consumed();
    ledger.flush().await.unwrap();
    let listed = Ledger::list(dir.path()).unwrap();
    assert_eq!(listed.iter().map(|p| (p.held.micro(), p.consumed)).collect::<Vec<_>>(), [(1, false), (2, true)]);
    assert!(matches!(Ledger::list(&dir.path().join("absent")), Err(OpenError::Store { .. })));
    assert!(ledger.available());
}
