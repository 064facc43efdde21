//! Durable holds per second: how many purchases one ledger can make durable while so many wait at once (M4.1).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tollpass::ledger::{ClockReading, Ledger, Likeness, NewPurchase, Options};
use tollpass::payment::{Payer, PurchaseId, RequestKey, Timestamp};
use tollpass::policy::Approval;

/// Lets `waiters` tasks reserve, commit and consume in a loop for `time`; answers durable holds per second, and per transaction.
///
/// `dir` must be an empty folder on the disk to be measured. `approve` makes the approval of one purchase at a ledger time
/// (of policy epoch 0), as `Policy::evaluate` does it; it is inside the measured loop.
pub(super) fn holds<A>(dir: &Path, waiters: usize, time: Duration, approve: A) -> (f64, f64)
where
    A: Fn(&Ledger, Timestamp) -> Approval + Send + Sync + 'static,
{
    let now = Timestamp::from_secs(1_795_255_200);
    let options = Options { dir: dir.to_owned(), ephemeral_ok: true, accept_clock: true };
    let ledger = Ledger::open(&options, ClockReading { wall: now, boot_ms: 0 }).expect("an empty folder opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime starts");
    let (approve, next) = (Arc::new(approve), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let tasks: Vec<_> = (0..waiters)
        .map(|_| {
            let (ledger, approve, next) = (ledger.clone(), Arc::clone(&approve), Arc::clone(&next));
            runtime.spawn(async move {
                let mut count = 0_u32;
                while start.elapsed() < time {
                    let purchase = purchase(next.fetch_add(1, Ordering::Relaxed));
                    let reservation = ledger.reserve(approve(&ledger, now), purchase, now).expect("the limits are wide");
                    reservation.commit().await.expect("the disk takes it").consumed();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = tasks.into_iter().map(|t| runtime.block_on(t).expect("no task panics")).sum();
    let seconds = start.elapsed().as_secs_f64();
    (f64::from(count) / seconds, f64::from(count) / transactions(dir))
}

/// Transactions the store has made so far: each of those with a hold in it is one sync.
fn transactions(dir: &Path) -> f64 {
    let store = rusqlite::Connection::open(dir.join("ledger.db")).expect("the store is there");
    store.query_row("SELECT sequence FROM meta", [], |row| row.get(0)).expect("it has a sequence")
}

fn purchase(n: u64) -> NewPurchase {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    NewPurchase {
        id: PurchaseId::from_bytes(id),
        key: RequestKey([0; 32]),
        likeness: Likeness::default(),
        payer: Payer("0x1111111111111111111111111111111111111111".parse().expect("an address")),
        host: "api.bureau.example".into(),
        method: "GET".into(),
        valid_after: 0,
    }
}
