//! The decision path in parts: challenge → decision → durable hold → local signature → header.

use std::time::{Duration, Instant};

use tollpass::ledger::{ClockReading, Commitment, Ledger, Likeness, NewPurchase, Options, SignRequest};
use tollpass::payment::{Payer, PurchaseId, RequestKey, Signed, Timestamp};
use tollpass::protocol;
use tollpass::signer::{Signer, local::LocalSigner};

use super::fixture::{self, Judge};

const ROUNDS: usize = 2000;

/// Public test key (the first account of every development chain).
pub(super) const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

#[derive(Default)]
struct Times {
    rows: Vec<(&'static str, Vec<Duration>)>,
}

impl Times {
    fn time<T>(&mut self, name: &'static str, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = std::hint::black_box(f());
        let took = start.elapsed();
        match self.rows.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => all.push(took),
            None => self.rows.push((name, vec![took])),
        }
        result
    }
}

pub(super) fn report() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let now = Timestamp::from_secs(1_795_255_200);
    let options = Options { dir: dir.path().to_owned(), ephemeral_ok: true, accept_clock: true };
    let ledger = Ledger::open(&options, ClockReading { wall: now, boot_ms: 0 }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let signer = LocalSigner::start(KEY).unwrap();
    let payer = signer.account(&"bot".parse().unwrap()).unwrap();
    let judge = Judge::new();
    let headers = fixture::headers();
    let mut times = Times::default();
    for n in 0..ROUNDS {
        let challenge = times.time("challenge parsed and validated", || protocol::parse_head(&headers, judge.policy.assets()));
        assert!(challenge.unwrap().is_some());
        let decision = times.time("policy decision", || ledger.read(|books| judge.decide(books, now)));
        let approval = decision.verdict.unwrap();
        let offer = approval.offer().clone();
        let reservation = times.time("reservation (in memory)", || ledger.reserve(approval, purchase(n, payer), now)).unwrap();
        let mut commitment: Commitment = times.time("durable commit (fsync)", || runtime.block_on(reservation.commit())).unwrap();
        let request: SignRequest = times.time("sign request rebuilt and compared", || commitment.sign_request(&offer.asset)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        let signed: Signed = times.time("local signature, checked", || runtime.block_on(signer.authorize(&request, deadline))).unwrap();
        times.time("signature recorded", || commitment.signed(&signed));
        times.time("header", || protocol::credential(offer.protocol, &offer.wire, &signed));
        commitment.consumed();
    }
    print(&mut times);
}

pub(super) fn purchase(n: usize, payer: Payer) -> NewPurchase {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(n as u64).to_le_bytes());
    NewPurchase {
        id: PurchaseId::from_bytes(id),
        key: RequestKey([0; 32]),
        likeness: Likeness::default(),
        payer,
        host: "seller.example".into(),
        method: "GET".into(),
        valid_after: 0,
    }
}

fn print(times: &mut Times) {
    println!("## A payment in parts ({ROUNDS} rounds, one after the other)\n\n| part | p50 µs | p99 µs |\n|---|---:|---:|");
    let mut ours = 0.0;
    for (name, all) in &mut times.rows {
        all.sort_unstable();
        let at = |q: usize| all[all.len() * q / 100].as_secs_f64() * 1e6;
        if !name.contains("fsync") && !name.contains("signature, checked") {
            ours += at(50);
        }
        println!("| {name} | {:.1} | {:.1} |", at(50), at(99));
    }
    println!("| **everything but fsync and signature** | **{ours:.1}** | |");
}
