//! Group commit: many waiters share one sync (M4.1).

use std::time::{Duration, Instant};

use super::*;

/// Durable holds per second with so many waiters, and holds per transaction.
fn holds(waiters: usize, time: Duration) -> (f64, f64) {
    let (dir, ledger) = fresh();
    let sequence = || {
        let conn = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
        conn.query_row("SELECT sequence FROM meta", [], |r| r.get::<_, i64>(0)).unwrap()
    };
    let before = sequence();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let start = Instant::now();
    let count: usize = runtime.block_on(async {
        let tasks: Vec<_> = (0..waiters)
            .map(|_| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let mut count = 0;
                    while start.elapsed() < time {
                        let checks = vec![cap(hour(), i64::MAX / 2), cap(everything(), i64::MAX / 2), rate(T0, u32::MAX)];
                        let reservation = ledger.reserve(approve(1, checks), new(1), T0).unwrap();
                        reservation.commit().await.unwrap().consumed();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    let seconds = start.elapsed().as_secs_f64();
    let batches = sequence() - before;
    assert_eq!(i64::try_from(count).unwrap(), spent(&ledger, hour()));
    (count as f64 / seconds, count as f64 / batches as f64)
}

#[test]
fn waiters_share_syncs_m4_1() {
    for waiters in [1, 16, 256] {
        let (per_second, per_batch) = holds(waiters, Duration::from_millis(200));
        println!("{waiters:>4} waiters: {per_second:>9.0} durable holds/s, {per_batch:>6.1} per transaction");
        // How many depends on the machine (see the bench); that they share does not.
        assert!(waiters == 1 || per_batch > 1.0, "{waiters}: {per_batch}");
    }
}
