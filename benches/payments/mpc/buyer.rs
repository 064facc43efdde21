//! What `serve` does between a challenge and a header, in this process, with either signer: decision, durable hold, signature,
//! header.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollpass::clock;
use tollpass::crew::Crew;
use tollpass::custody::Custody;
use tollpass::ledger::{Ledger, Options};
use tollpass::metrics::Metrics;
use tollpass::payment::{Payer, Reason};
use tollpass::protocol;
use tollpass::signer::Signer;
use tollpass::signer::local::LocalSigner;
use tollpass::signer::mpc::{MpcSigner, Parts};
use tollpass::wire::link::{Client, Peer};

use super::process;
use super::wallet::Wallet;
use crate::fixture::Judge;
use crate::parts::purchase;

/// As in `serve`.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long it took, or why it failed.
pub(super) type Bought = Result<Duration, Reason>;

/// One proxy's money side.
pub(super) struct Buyer {
    ledger: Ledger,
    judge: Judge,
    signer: Arc<dyn Signer>,
    payer: Payer,
    metrics: Arc<Metrics>,
    keeping: Option<tokio::task::JoinHandle<()>>,
    next: std::sync::atomic::AtomicUsize,
}

impl Drop for Buyer {
    fn drop(&mut self) {
        if let Some(keeping) = &self.keeping {
            keeping.abort();
        }
    }
}

impl Buyer {
    fn new(dir: &Path, signer: Arc<dyn Signer>, payer: Payer, metrics: Arc<Metrics>) -> Self {
        let folder = tempfile::tempdir_in(dir).unwrap().keep();
        let ledger = Ledger::open(&Options { dir: folder, ephemeral_ok: true, accept_clock: true }, clock::read()).unwrap();
        Self { ledger, judge: Judge::new(), signer, payer, metrics, keeping: None, next: 0.into() }
    }

    pub(super) fn local(dir: &Path) -> Self {
        let signer = LocalSigner::start(crate::parts::KEY).unwrap();
        let payer = signer.account(&"bot".parse().unwrap()).unwrap();
        Self::new(dir, Arc::new(signer), payer, Metrics::new(false))
    }

    /// Over the co-signer at `authority`, with a pool of so many presignatures.
    pub(super) fn mpc(dir: &Path, wallet: &Wallet, custody: &Arc<Custody>, authority: String, pool: usize) -> Self {
        let peer = Peer { authority: authority.clone(), pin: wallet.cosigner.identity.fingerprint() };
        let metrics = Metrics::new(false);
        let signer = MpcSigner::new(Parts {
            custody: Arc::clone(custody),
            identity: wallet.sidecar.identity.clone(),
            client: Client::new(wallet.sidecar.identity.clone(), peer, Duration::from_secs(1)),
            crew: Crew::per_core("tollpass-sign").unwrap(),
            metrics: Arc::clone(&metrics),
            cosigner: authority,
            pool,
        });
        let keeping = tokio::spawn(signer.clone().keep());
        let mut buyer = Self::new(dir, Arc::new(signer), wallet.address, metrics);
        buyer.keeping = Some(keeping);
        buyer
    }

    /// Buys once; how long from the decision to the header, or why there is none.
    pub(super) async fn buy(&self) -> Bought {
        let start = Instant::now();
        let now = self.ledger.clock(clock::read()).now;
        let approval = self.judge.approve(&self.ledger, now);
        let offer = approval.offer().clone();
        let n = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut new = purchase(n, self.payer);
        new.id = tollpass::payment::PurchaseId::from_bytes(rand::random());
        let mut commitment = self.ledger.reserve(approval, new, now).unwrap().commit().await.unwrap();
        let request = commitment.sign_request(&offer.asset).unwrap();
        let signed = match self.signer.authorize(&request, Instant::now() + DEADLINE).await {
            Ok(signed) => signed,
            Err(error) => return Err(error.reason()),
        };
        commitment.signed(&signed);
        std::hint::black_box(protocol::credential(offer.protocol, &offer.wire, &signed));
        let took = start.elapsed();
        commitment.consumed();
        Ok(took)
    }

    /// So many, one after the other.
    pub(super) async fn in_turn(&self, count: usize) -> Vec<Bought> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(self.buy().await);
        }
        times
    }

    /// Waits until as many presignatures were made; its gauge is brought up to date once a second and when a pool was filled.
    pub(super) async fn filled(&self, wanted: usize) {
        for _ in 0..600 {
            let ready = process::sum(&self.metrics.render(), "tollpass_presignatures", "");
            if ready >= wanted as f64 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the pool does not fill: {}", self.metrics.render());
    }
}

/// `per_second` for `time`, whether or not the ones before are done; each from the moment it was due. And how many a second
/// ended until the last one did.
pub(super) async fn steady(buyer: &Arc<Buyer>, per_second: u32, time: Duration) -> (Vec<Bought>, f64) {
    let (start, count) = (tokio::time::Instant::now(), per_second * u32::try_from(time.as_secs()).unwrap());
    let mut running = Vec::new();
    for n in 0..count {
        let due = start + Duration::from_secs(1) * n / per_second;
        tokio::time::sleep_until(due).await;
        let buyer = Arc::clone(buyer);
        running.push(tokio::spawn(async move {
            let late = due.elapsed();
            buyer.buy().await.map(|took| took + late)
        }));
    }
    let mut times = Vec::new();
    for one in running {
        times.push(one.await.unwrap());
    }
    (times, f64::from(count) / start.elapsed().as_secs_f64())
}

/// So many at the same moment.
pub(super) async fn at_once(buyer: &Arc<Buyer>, count: usize) -> Vec<Bought> {
    let running: Vec<_> = (0..count)
        .map(|_| {
            let buyer = Arc::clone(buyer);
            let due = Instant::now();
            tokio::spawn(async move {
                let late = due.elapsed();
                buyer.buy().await.map(|took| took + late)
            })
        })
        .collect();
    let mut times = Vec::new();
    for one in running {
        times.push(one.await.unwrap());
    }
    times
}
