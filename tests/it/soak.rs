//! A proxy is started once and serves for weeks: what has ended leaves nothing behind. Laps of everything agents and sellers do,
//! for `SOAK_SECONDS` (`make soak`); after each lap it is quiet, and the process and its books have to look as before.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use alloy_primitives::U256;

use crate::harness::{Act, Agent, Agent2, Call, Chain, Next, Plan, Program, Seller, Setup, Terms, TestCa, Visit, eventually, get, shop};
use crate::till::{CENT, hang_up, payee, rows, spent, try_get};

/// Agents at once.
const AGENTS: usize = 6;
/// Laps of the shortest run: the first third warms up.
const LAPS: usize = 6;
/// What an allocator may keep for itself between two quiet moments, and the last hour's commitments, which rates are counted by: eight
/// bytes for each scope, some 60 for a purchase. KiB.
const SLACK_KIB: u64 = 24 << 10;
/// Pooled connections and their timers come and go.
const SLACK_FILES: usize = 12;

/// What one lap is made of, with sellers on ports that no lap before had.
struct Lap<'a> {
    program: &'a Program,
    ca: &'a str,
    plain: Seller,
    tls: Seller,
    echo: Seller,
}

type Deed = fn(&Lap<'_>, &str);

/// Everything that comes and goes; each leaves no purchase open.
const DEEDS: [(&str, Deed); 11] = [
    ("free", free),
    ("paid", paid),
    ("upload", upload),
    ("intercepted", intercepted),
    ("tunnel", tunnel),
    ("socks", socks),
    ("http2", http2),
    ("upgrade", upgrade),
    ("reset", reset),
    ("left", left),
    ("nonsense", nonsense),
];

fn free(lap: &Lap<'_>, id: &str) {
    let mut agent = lap.program.agent();
    for n in 0..4 {
        let answer = agent.get(&lap.plain.url(&format!("/free/{id}/{n}")));
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    }
}

#[track_caller]
fn bought(status: u16, text: &str) {
    assert_eq!((status, text), (200, "sold"));
}

fn paid(lap: &Lap<'_>, id: &str) {
    let answer = lap.program.get(&lap.plain.url(&format!("/{id}")));
    bought(answer.status, &answer.text());
}

fn upload(lap: &Lap<'_>, id: &str) {
    let answer = lap.program.request("POST", &lap.plain.url(&format!("/{id}")), "", &vec![b'u'; 300_000]);
    bought(answer.status, &answer.text());
}

fn intercepted(lap: &Lap<'_>, id: &str) {
    let authority = format!("localhost:{}", lap.tls.port());
    let mut agent = lap.program.agent().connect(&authority, "").tls("localhost", lap.ca);
    let answer = agent.request("GET", &format!("/{id}"), &format!("Host: {authority}\r\n"), b"");
    bought(answer.status, &answer.text());
}

fn tunnel(lap: &Lap<'_>, id: &str) {
    let mut agent = lap.program.agent().connect(&lap.echo.authority(), "");
    let said = [b"\x00binary ", id.as_bytes(), &[7; 50_000]].concat();
    agent.send(&said);
    assert_eq!(agent.wire.exactly(said.len()).unwrap(), said);
}

fn socks(lap: &Lap<'_>, id: &str) {
    let mut agent = Agent::to(lap.program.listener("socks"));
    agent.send([&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &lap.plain.port().to_be_bytes()].concat());
    assert_eq!(agent.wire.exactly(12).unwrap()[..4], [5, 0, 5, 0]);
    let answer = agent.request("GET", &format!("/{id}"), &format!("Host: {}\r\n", lap.plain.authority()), b"");
    bought(answer.status, &answer.text());
}

fn http2(lap: &Lap<'_>, id: &str) {
    let agent = Agent2::to(lap.program.proxy());
    for n in 0..3 {
        let answer = agent.send(get(&lap.plain.url(&format!("/{id}/{n}"))));
        bought(answer.status, &answer.text());
    }
}

fn upgrade(lap: &Lap<'_>, id: &str) {
    let mut agent = lap.program.agent();
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    agent.send(Agent::request_bytes("GET", &lap.plain.url("/chat"), lines, b""));
    assert_eq!(agent.head().unwrap().status(), 101);
    agent.send(id);
    assert_eq!(agent.wire.exactly(id.len()).unwrap(), id.as_bytes());
}

/// The seller resets the first paid request; asked again, it gets the same payment.
fn reset(lap: &Lap<'_>, id: &str) {
    let url = lap.plain.url(&format!("/once/{id}"));
    assert_eq!(lap.program.get(&url).status, 502);
    let answer = lap.program.get(&url);
    bought(answer.status, &answer.text());
}

/// The agent leaves while the seller thinks, and comes back for what it bought.
fn left(lap: &Lap<'_>, id: &str) {
    let url = lap.plain.url(&format!("/slow/{id}"));
    let mut agent = lap.program.agent();
    agent.send(Agent::request_bytes("GET", &url, "", b""));
    eventually("the seller has the payment", || lap.plain.paid().iter().any(|seen| seen.head.target().ends_with(&format!("/slow/{id}"))));
    hang_up(agent);
    // Who comes back while the seller still thinks gets what it says then: 502.
    let again = (0..3).map(|_| lap.program.get(&url)).find(|answer| answer.status != 502).unwrap();
    bought(again.status, &again.text());
}

/// Half a head, no protocol at all, a challenge nobody can read, a seller that nobody is.
fn nonsense(lap: &Lap<'_>, id: &str) {
    let mut half = lap.program.agent();
    half.send(format!("GET {} HTTP/1.1\r\nHost: ", lap.plain.url("/x")));
    drop(half);
    let mut wrong = lap.program.agent();
    wrong.send(b"\x16\x03\x01 no hello\r\n\r\n");
    let _ = wrong.wire.rest();
    assert_eq!(lap.program.get(&lap.plain.url(&format!("/junk/{id}"))).status, 402);
    let nobody = try_get(lap.program.proxy(), "http://127.0.0.1:1/", "").unwrap();
    assert_eq!(nobody.status, 502);
}

fn sell(call: &mut Call<'_>, shop: &impl Fn(&mut Call<'_>) -> Next) -> Next {
    let target = call.head.target().to_owned();
    if target.starts_with("/free/") {
        return call.reply(200, "", vec![b'f'; 100_000]);
    }
    if target.starts_with("/junk/") {
        return call.reply(402, "PAYMENT-REQUIRED: bm8=\r\n", "{");
    }
    if target == "/chat" {
        call.raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: abc\r\n\r\n");
        echo(call.wire);
        return Next::Close;
    }
    shop(call)
}

fn echo(wire: &mut crate::harness::Wire) {
    while let Ok(bytes) = wire.some() {
        if bytes.is_empty() || wire.write(&bytes).is_err() {
            return;
        }
    }
}

/// What a process holds while it is quiet.
#[derive(Clone, Copy, Debug)]
struct Held {
    kib: u64,
    files: usize,
    series: usize,
}

impl Held {
    fn by(program: &Program) -> Self {
        let files = std::fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count();
        Self { kib: program.memory_kib(), files, series: program.metrics().series.len() }
    }
}

impl<'a> Lap<'a> {
    fn open(program: &'a Program, ca: &'a str, chain: &Chain, seller_ca: &TestCa) -> Self {
        let sellers = || {
            let shown: Mutex<HashSet<String>> = Mutex::default();
            let shop = shop(chain, Terms::v2(payee(), CENT), move |visit: &Visit| {
                let target = visit.head.target();
                let first =
                    (target.starts_with("/once/") || target.starts_with("/slow/")) && shown.lock().unwrap().insert(target.to_owned());
                match target {
                    _ if first && target.starts_with("/once/") => Plan::keep(Act::Reset),
                    _ if first => Plan::keep(Act::Reset).after(Duration::from_millis(200)),
                    _ => Plan::ok("sold"),
                }
            });
            move |call: &mut Call<'_>| sell(call, &shop)
        };
        let (config, _) = seller_ca.server(&["localhost"]);
        Self { program, ca, plain: Seller::http(sellers()), tls: Seller::start(Some(config), sellers()), echo: Seller::tcp(echo) }
    }

    /// Every agent does everything once, each in an order of its own.
    fn run(self, n: usize) {
        std::thread::scope(|threads| {
            for agent in 0..AGENTS {
                let lap = &self;
                threads.spawn(move || {
                    for step in 0..DEEDS.len() {
                        let (name, deed) = DEEDS[(step * (agent + 1) + n) % DEEDS.len()];
                        deed(lap, &format!("{name}-{n}-{agent}"));
                    }
                });
            }
        });
    }
}

fn policy(n: usize) -> String {
    Setup::policy_with(&format!("per_payment: 5, day: {}", 1_000_000 + n % 2), "", "    rate: { per_minute: 1000000 }\n")
}

#[test]
fn what_has_ended_leaves_nothing_behind() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(0, |s| s.parse().expect("SOAK_SECONDS is a number"));
    let (chain, seller_ca, begun) = (Chain::new(), TestCa::new(), Instant::now());
    let program = Program::start(Setup::new().policy(policy(0)).listen(&["socks"]).roots(&seller_ca.pem));
    let ca = program.ca();
    let mut held = Vec::new();
    while held.len() < LAPS || begun.elapsed() < Duration::from_secs(seconds) {
        Lap::open(&program, &ca, &chain, &seller_ca).run(held.len());
        program.policy_set(&policy(held.len() + 1));
        let mut metrics = program.metrics();
        eventually("no purchase is open", || {
            metrics = program.metrics();
            metrics.sum("tollpass_open_authorizations", &[]) == 0.0
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cents in a test")]
        let cents = (metrics.sum("tollpass_spend_usd_total", &[]) * 100.0).round() as u64;
        assert_eq!(chain.total(), U256::from(cents * CENT), "after lap {}", held.len());
        held.push(Held::by(&program));
        if seconds > 0 && held.len().is_multiple_of(20) {
            eprintln!("{} s, lap {}, {cents} purchases: {:?}", begun.elapsed().as_secs(), held.len(), held[held.len() - 1]);
        }
    }
    assert_eq!(chain.total(), U256::from(spent(&program)), "the ledger");
    assert!(rows(&program).iter().all(|row| row.state == "settled"), "the ledger's states");
    let (warm, last) = (held[held.len() / 3], held[held.len() - 1]);
    assert!(last.kib <= warm.kib + SLACK_KIB, "memory: {held:?}");
    assert!(last.files <= warm.files + SLACK_FILES, "descriptors: {held:?}");
    assert_eq!(last.series, warm.series, "series of metrics: {held:?}");
}
