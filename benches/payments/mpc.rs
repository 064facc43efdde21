//! A key in three shares beside a whole one, in one run: the real co-signer over real TLS, durable ledgers on both sides.

mod buyer;
mod cosigner;
mod process;
mod proxy;
mod relay;
mod wallet;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollpass::custody::Custody;

use buyer::{Bought, Buyer, at_once, steady};
use cosigner::Cosigner;
use process::Cpu;
use proxy::{Proxy, With};
use wallet::Wallet;

/// Payments per second that a wallet has to keep up with.
const RATE: u32 = 85;
/// Payments in a row between two looks at the pool.
const BURST: usize = 20;
/// The largest pool of presignatures.
const POOL: usize = 96;
/// How long each steady load lasts.
const LOAD: Duration = Duration::from_secs(12);
/// Distances, milliseconds there and back.
const FAR: [u64; 2] = [30, 70];

pub(super) fn report() {
    let dir = tempfile::tempdir_in(".").unwrap();
    // Two workers, as the money side of `serve`.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wallet = Wallet::create(dir.path());
    let cosigner = Cosigner::start(&wallet);
    let idle = cosigner.memory();
    let custody = Arc::new(Custody::open(&wallet.sidecar.share(), &wallet.sidecar.unseal()).unwrap());
    let bench = Bench { dir: dir.path(), wallet: &wallet, cosigner: &cosigner, custody };
    let mut verdicts = Verdicts::default();
    runtime.block_on(bench.costs(idle, &mut verdicts));
    runtime.block_on(bench.latency(&mut verdicts));
    runtime.block_on(bench.load(&mut verdicts));
    // The share is one process's: `serve` opens it next.
    drop(bench);
    drop(runtime);
    unpaid(dir.path(), &wallet, &cosigner, &mut verdicts);
    verdicts.print();
}

struct Bench<'a> {
    dir: &'a Path,
    wallet: &'a Wallet,
    cosigner: &'a Cosigner,
    custody: Arc<Custody>,
}

impl Bench<'_> {
    /// A buyer over the co-signer, as far away as said, with its connection made.
    async fn buyer(&self, far: u64, pool: usize) -> Arc<Buyer> {
        let to = self.cosigner.address;
        let authority = if far == 0 { to } else { relay::start(to, Duration::from_millis(far)) };
        let buyer = Arc::new(Buyer::mpc(self.dir, self.wallet, &self.custody, authority.to_string(), pool));
        if pool > 0 {
            buyer.filled(POOL).await;
        } else {
            buyer.in_turn(5).await;
        }
        buyer
    }

    /// Waits until nothing is missing in the pool: payments that follow are not made beside its filling.
    async fn full(&self) {
        while self.cosigner.presignatures() < POOL {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// CPU and memory.
    async fn costs(&self, idle: u64, verdicts: &mut Verdicts) {
        const COUNT: usize = 400;
        let local = Buyer::local(self.dir);
        local.in_turn(5).await;
        let start = Cpu::of(std::process::id());
        local.in_turn(COUNT).await;
        let (local, _) = Cpu::of(std::process::id()).each(start, COUNT);
        println!(
            "\n## A signature in three shares: CPU and memory\n\n{COUNT} payments one after the other; the proxy's side has the decision, the ledger and the header in it.\n"
        );
        println!("| signer | party | CPU ms | of it arithmetic, ms | signatures per second and core |\n|---|---|---:|---:|---:|");
        println!("| local | the only one | {local:.2} | | {:.0} |", 1e3 / local);
        for (name, pool) in [("interactive", 0), ("presigned, the making not counted", POOL)] {
            let buyer = self.buyer(0, pool).await;
            // In bursts; the middle one counts. The pool is filled up once a second, which hits one burst or another.
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..COUNT / BURST {
                if pool > 0 {
                    self.full().await;
                }
                let (here, there) = (Cpu::of(std::process::id()), self.cosigner.cpu());
                buyer.in_turn(BURST).await;
                ours.push(Cpu::of(std::process::id()).each(here, BURST));
                theirs.push(self.cosigner.cpu().each(there, BURST));
            }
            for (party, mut spent) in [("proxy", ours), ("co-signer", theirs)] {
                spent.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (all, crew) = spent[spent.len() / 2];
                println!("| {name} | {party} | {all:.2} | {crew:.2} | {:.0} |", 1e3 / all);
                if pool == 0 {
                    verdicts.add(&format!("CPU per interactive signature, {party}"), format!("{all:.2} ms"), "≤ 6 ms", all <= 6.0);
                }
            }
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!("\n| memory | |\n|---|---:|");
        println!("| co-signer with its wallet, idle | {:.1} MiB |", mib(idle));
        println!("| co-signer after {} payments, {POOL} presignatures ready | {:.1} MiB |", 2 * COUNT, mib(self.cosigner.memory()));
        println!("| one more opened share | {} KiB |", self.wallet.share_memory >> 10);
        println!("| a share as stored | {} KiB |", self.wallet.share_size >> 10);
    }

    /// From the decision to the header, near and far.
    async fn latency(&self, verdicts: &mut Verdicts) {
        const COUNT: usize = 200;
        println!(
            "\n## Authorize: decision, durable hold, signature of two parties, header\n\nOne after the other. Real TLS on loopback; the distance is a relay that delivers late.\n"
        );
        println!("| round trip ms | signer | p50 ms | p99 ms | wanted p50 |\n|---:|---|---:|---:|---:|");
        let local = times(Buyer::local(self.dir).in_turn(COUNT).await);
        println!("| – | local | {:.2} | {:.2} | |", local.p50, local.p99);
        for far in [0].into_iter().chain(FAR) {
            for (name, pool, trips, room) in [("interactive", 0, 2, 25), ("presigned", POOL, 1, if far == 0 { 3 } else { 5 })] {
                let buyer = self.buyer(far, pool).await;
                let mut all = Vec::new();
                while all.len() < COUNT {
                    if pool > 0 {
                        self.full().await;
                    }
                    all.extend(buyer.in_turn(BURST).await);
                }
                let (got, wanted) = (times(all), trips * far + room);
                println!("| {far} | {name} | {:.2} | {:.2} | ≤ {wanted} |", got.p50, got.p99);
                let what = format!("authorize {name}, {far} ms away, p50");
                verdicts.add(&what, format!("{:.1} ms", got.p50), &format!("≤ {wanted} ms"), got.p50 <= wanted as f64);
            }
        }
    }

    /// Many a second, and many at once, 30 ms away.
    async fn load(&self, verdicts: &mut Verdicts) {
        let far = FAR[0];
        let seconds = LOAD.as_secs();
        println!("\n## {RATE} authorizations a second, {far} ms away\n\nEach counts from the moment it was due.\n");
        println!("| load | signer | p50 ms | p99 ms | worst ms | done per second | failed |\n|---|---|---:|---:|---:|---:|---|");
        let local = Arc::new(Buyer::local(self.dir));
        let (all, rate) = steady(&local, RATE, LOAD).await;
        row(&format!("steady, {seconds} s"), "local", &times(all), Some(rate));
        let buyer = self.buyer(far, 0).await;
        let (here, there) = (Cpu::of(std::process::id()), self.cosigner.cpu());
        let (all, rate) = steady(&buyer, RATE, LOAD).await;
        let count = all.len();
        let (ours, theirs) = (Cpu::of(std::process::id()).each(here, count).0, self.cosigner.cpu().each(there, count).0);
        let got = times(all);
        row(&format!("steady, {seconds} s"), "interactive", &got, Some(rate));
        verdicts.add(
            &format!("{RATE}/s interactive, {far} ms away, p99"),
            format!("{:.0} ms at {rate:.1}/s, failed: {}", got.p99, none(&got.failed)),
            "< 150 ms",
            got.p99 < 150.0,
        );
        drop(buyer);
        let buyer = self.buyer(far, POOL).await;
        let before = self.cosigner.signatures();
        let got = times(at_once(&buyer, RATE as usize).await);
        let after = self.cosigner.signatures();
        row(&format!("{RATE} at once"), "presigned", &got, None);
        println!(
            "\nCPU per payment under the steady load: {ours:.2} ms here (relay and load included), {theirs:.2} ms at the co-signer. Of the {RATE} at once {} were presigned.",
            after.1 - before.1
        );
        verdicts.add(&format!("{RATE} at once presigned, {far} ms away, p99"), format!("{:.0} ms", got.p99), "< 150 ms", got.p99 < 150.0);
    }
}

/// What the load does to requests that cost nothing: through the real proxy.
fn unpaid(dir: &Path, wallet: &Wallet, cosigner: &Cosigner, verdicts: &mut Verdicts) {
    let far = FAR[0];
    println!(
        "\n## Requests that cost nothing while {RATE} payments a second go through the same proxy\n\nThe real `serve`, 200 free requests a second; the co-signer is {far} ms away. Seller, load and both parties share the cores.\n"
    );
    println!(
        "| signer | load | unpaid p50 ms | unpaid p99 ms | p99 against idle | paid p50 ms | paid p99 ms |\n|---|---|---:|---:|---:|---:|---:|"
    );
    for name in ["local", "interactive"] {
        let with = match name {
            "local" => With::Local,
            _ => With::Mpc(wallet, relay::start(cosigner.address, Duration::from_millis(far))),
        };
        let proxy = Proxy::start(dir, &with);
        proxy.paid(5, Duration::from_secs(2));
        let idle = times(proxy.free(LOAD));
        println!("| {name} | none | {:.3} | {:.3} | 1.0 | | |", idle.p50, idle.p99);
        let (free, paid) = std::thread::scope(|scope| {
            let paid = scope.spawn(|| proxy.paid(RATE, LOAD));
            (times(proxy.free(LOAD)), times(paid.join().unwrap()))
        });
        let ratio = free.p99 / idle.p99;
        println!("| {name} | {RATE}/s | {:.3} | {:.3} | {ratio:.2} | {:.1} | {:.1} |", free.p50, free.p99, paid.p50, paid.p99);
        if name == "interactive" {
            let what = format!("unpaid p99 under {RATE}/s against idle");
            verdicts.add(&what, format!("{ratio:.2}x ({:.2} ms to {:.2} ms)", idle.p99, free.p99), "≤ 1.5x", ratio <= 1.5);
        }
    }
}

fn none(failed: &str) -> &str {
    if failed.is_empty() { "none" } else { failed }
}

fn row(load: &str, signer: &str, got: &Times, rate: Option<f64>) {
    let rate = rate.map_or_else(String::new, |r| format!("{r:.1}"));
    println!("| {load} | {signer} | {:.1} | {:.1} | {:.1} | {rate} | {} |", got.p50, got.p99, got.worst, got.failed);
}

/// Milliseconds. What failed counts as never done in `p50`, `p99` and `worst`.
struct Times {
    p50: f64,
    p99: f64,
    worst: f64,
    /// How many, and why.
    failed: String,
}

fn times(all: Vec<Bought>) -> Times {
    let mut why = BTreeMap::<&str, usize>::new();
    let mut took = Vec::with_capacity(all.len());
    for one in all {
        took.push(one.map_or(f64::INFINITY, |t| t.as_secs_f64() * 1e3));
        if let Err(reason) = one {
            *why.entry(reason.as_str()).or_default() += 1;
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |q: usize| took[(took.len() * q / 100).min(took.len() - 1)];
    let failed: Vec<_> = why.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    Times { p50: at(50), p99: at(99), worst: at(100), failed: failed.join(", ") }
}

/// The targets and what became of them, as lines of one table.
#[derive(Default)]
struct Verdicts(Vec<String>);

impl Verdicts {
    fn add(&mut self, what: &str, got: String, wanted: &str, good: bool) {
        self.0.push(format!("| {what} | {got} | {wanted} | {} |", if good { "yes" } else { "**no**" }));
    }

    fn print(&self) {
        println!("\n## Targets of threshold signing\n\n| what | measured | wanted | met |\n|---|---:|---:|---|\n{}", self.0.join("\n"));
    }
}
