//! Group commit: many waiters share one sync (M4.1).

use std::time::{Duration, Instant};

use super::*;

fn sequence(dir: &TempDir) -> i64 {
    let conn = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    conn.query_row("SELECT sequence FROM meta", [], |r| r.get(0)).unwrap()
}

#[tokio::test]
async fn holds_that_wait_together_share_one_transaction_m4_1() {
    let (dir, ledger) = fresh();
    let before = sequence(&dir);
    let blocker = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits: Vec<_> = (0..256).map(|i| tokio::spawn(ledger.reserve(approve(1, vec![]), new(i as u8), T0).unwrap().commit())).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    blocker.execute_batch("ROLLBACK").unwrap();
    for commit in commits {
        commit.await.unwrap().unwrap().consumed();
    }
    ledger.flush().await.unwrap();
    let transactions = sequence(&dir) - before;
    assert!(transactions <= 8, "the first alone, the rest together, and what follows: {transactions}");
    assert_eq!(spent(&ledger, hour()), 256);
}

/// Durable holds per second with so many waiters, and holds per transaction.
fn holds(waiters: usize, time: Duration) -> (f64, f64) {
    let (dir, ledger) = fresh();
    let before = sequence(&dir);
    let offer = offer(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let start = Instant::now();
    let tasks: Vec<_> = (0..waiters)
        .map(|_| {
            let (ledger, offer) = (ledger.clone(), offer.clone());
            runtime.spawn(async move {
                let mut count = 0_u32;
                while start.elapsed() < time {
                    let checks = vec![cap(hour(), i64::MAX / 2), cap(everything(), i64::MAX / 2), rate(T0, u32::MAX)];
                    let approval = Approval::for_test(agent(), offer.clone(), entry(), checks, 0);
                    ledger.reserve(approval, new(1), T0).unwrap().commit().await.unwrap().consumed();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = tasks.into_iter().map(|t| runtime.block_on(t).unwrap()).sum();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(i64::from(count), spent(&ledger, hour()));
    (f64::from(count) / seconds, f64::from(count) / (sequence(&dir) - before) as f64)
}

/// Speed is shown, not judged: a loaded machine is no fault of the ledger. Only what is counted must be right.
#[test]
fn every_durable_hold_under_load_is_counted_once() {
    for waiters in [1, 16, 256] {
        let (per_second, per_transaction) = holds(waiters, Duration::from_millis(500));
        println!("{waiters:>4} waiters: {per_second:>7.0} durable holds/s, {per_transaction:>6.1} per transaction");
    }
}
