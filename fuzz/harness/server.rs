//! Sequences of operations against the co-signer's service with a real share, ledger and store. The fuzz target `cosigner`
//! and a short test of the crate run this same code.
//!
//! Eight bytes are one operation: what, over which connection, and parameters, so that every input is a sequence, a mutation
//! changes one step, and seeds can be written by hand. Everything panics where a rule is broken:
//!
//! 1. every answer is none, or a whole one with a reason of the closed set;
//! 2. a session or presignature gives one partial, and with honest messages that partial makes a valid signature;
//! 3. a request played again, or of a revoked or unknown key, has no answer;
//! 4. held is what was accepted: each purchase once, at its highest price, and nothing else;
//! 5. after a failed check of the protocol nothing is opened or signed, and honest messages never cause one;
//! 6. at most 64 sessions of an identity are half open; none stays when its connection has gone.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256, U256, address};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tollpass::clock;
use tollpass::config::Secret;
use tollpass::cosigner::judge::{Judge, Surroundings};
use tollpass::cosigner::registry::{self, Registry};
use tollpass::cosigner::server::{Parts, Server};
use tollpass::cosigner::store::Store;
use tollpass::crew::Crew;
use tollpass::custody::{Custody, Unseal};
use tollpass::ledger::{self, ClockReading, Ledger};
use tollpass::metrics::Metrics;
use tollpass::mpc::testing::{Cheat, deal_shared};
use tollpass::mpc::{Begun, Completing, Partial, Party, PreBegun, Presignature, Share};
use tollpass::payment::{AgentId, AssetTable, Authorization, MicroUsd, Nonce, Payee, PurchaseId, Reason};
use tollpass::policy::{Policy, Source};
use tollpass::wire::envelope::{Header, Opened as Envelope};
use tollpass::wire::identity::Identity;
use tollpass::wire::link::{Incoming, Reply, Service};
use tollpass::wire::message::{
    Answer, Begin, Claims, Enroll, Enrolled, Finish, Finished, HELLO_FIRST, Hello, Intent, Kept, Noted, Opened, Prepare, Prepared, Present,
    Settle, SignedIntent, VERSION, Welcome, path,
};

/// Names the file of the simulated clock; without it time stands still here.
const AHEAD: &str = "TOLLPASS_CLOCK_AHEAD_MS";
/// Bytes of one operation.
const STEP: usize = 8;
/// Most operations of one input.
const MOST: usize = 96;
/// Inputs on one wallet: its ledger grows.
const INPUTS: usize = 400;
/// Prices, atomic units: usual, dearer, over the cap, nothing, absurd.
const PRICES: [u64; 5] = [10_000, 20_000, 2_000_000, 0, u64::MAX];
const CONNECTIONS: usize = 4;

const POLICY: &str = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 100000 }\n    allow:\n      \
    - { id: shop, host: shop.example, networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"0x1111111111111111111111111111111111111111\"] }\n";

/// The service, and what belongs to it for many inputs.
pub(crate) struct Bench {
    runtime: tokio::runtime::Runtime,
    server: Arc<Server>,
    custody: Arc<Custody>,
    ledger: Ledger,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    epoch: Arc<AtomicU64>,
    policy: Arc<Mutex<Arc<Policy>>>,
    share: Arc<Share>,
    turns: ([u8; 16], [u8; 16]),
    identities: [Identity; 2],
    names: u64,
    connections: u64,
    inputs: usize,
    _folders: [tempfile::TempDir; 2],
}

struct World {
    policy: Arc<Mutex<Arc<Policy>>>,
    custody: Arc<Custody>,
    store: Arc<Store>,
}

impl Surroundings for World {
    fn policy(&self) -> Arc<Policy> {
        self.policy.lock().unwrap().clone()
    }
    fn clock(&self) -> ClockReading {
        clock::read()
    }
    fn frozen(&self) -> bool {
        self.custody.frozen().is_some()
    }
    fn tied(&self, identity: &str, agent: &AgentId) -> bool {
        self.store.standing(identity).is_ok_and(|row| row.is_some_and(|row| row.agents.iter().any(|a| a == agent.as_str())))
    }
    fn agent_not_tied(&self, _: &str) {}
}

fn policy(epoch: u64) -> Arc<Policy> {
    Arc::new(Policy::parse_for_cosigner(&[Source { name: "policy.yaml".into(), text: POLICY.into() }], epoch).unwrap())
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// A new wallet in a new folder.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let unseal = Unseal::Value(Secret::new("a passphrase"));
        let [share, other, _] = deal_shared("w1");
        let folder = home.path().join("share");
        std::fs::create_dir(&folder).unwrap();
        // Ledger and store wait for the disk at each step; a disk in memory makes that five times as many inputs.
        let books = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let state = books.path().to_owned();
        Custody::create(&folder, &other, &unseal).unwrap();
        let custody = Arc::new(Custody::open(&folder, &unseal).unwrap());
        let options = ledger::Options { dir: state.clone(), ephemeral_ok: true, accept_clock: false };
        let ledger = Ledger::open(&options, clock::read()).unwrap();
        let (store, metrics) = (Arc::new(Store::open(&state).unwrap()), Metrics::new(false));
        let epoch = Arc::new(AtomicU64::new(1));
        let current = Arc::new(Mutex::new(policy(1)));
        ledger.follow(&policy(1));
        let world = World { policy: current.clone(), custody: custody.clone(), store: store.clone() };
        let judge = Arc::new(Judge::new(custody.share().wallet().clone(), ledger.clone(), store.clone(), Arc::new(world), None));
        let of_policy = epoch.clone();
        let server = Server::new(Parts {
            custody: custody.clone(),
            store: store.clone(),
            judge,
            crew: Crew::start("fuzz", 1, 16).unwrap(),
            metrics: metrics.clone(),
            policy: Box::new(move || of_policy.load(Ordering::Acquire)),
            presign: true,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let identities = [Identity::generate().unwrap(), Identity::generate().unwrap()];
        let mut bench = Self {
            runtime,
            server,
            custody,
            ledger,
            store,
            metrics,
            epoch,
            policy: current,
            share,
            turns: ([0; 16], rand::random()),
            identities,
            names: 0,
            connections: 0,
            inputs: 0,
            _folders: [home, books],
        };
        bench.enrol(0);
        bench.enrol(1);
        bench
    }

    /// Gives one of the two places to a new key.
    fn enrol(&mut self, who: usize) {
        self.identities[who] = Identity::generate().unwrap();
        self.names += 1;
        let name: AgentId = format!("identity-{}-{}", who, self.names).parse().unwrap();
        let (store, key) = (self.store.clone(), self.identities[who].fingerprint());
        let wallet = self.share.wallet().id.clone();
        self.runtime.block_on(async {
            let now = clock::read().wall;
            let (token, _) = registry::issue(&store, &name, &wallet, &["bot".parse().unwrap()], now).await.unwrap();
            Registry::new(store.clone()).enroll(&token, key, now).await.unwrap();
        });
    }

    /// Runs one input to its end and checks the rules. The bench is made anew when its wallet is spent.
    pub(crate) fn run(&mut self, data: &[u8]) -> Told {
        let mut run = Run::new(self);
        for step in data.chunks_exact(STEP).take(MOST) {
            run.step(step.try_into().unwrap());
        }
        let told = run.end();
        self.inputs += 1;
        if told.frozen || self.inputs >= INPUTS {
            *self = Self::new();
        }
        told
    }
}

/// What an input came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Requests that were answered, or not.
    pub(crate) requests: usize,
    /// Partials that left.
    pub(crate) partials: usize,
    /// Refusals.
    pub(crate) refused: usize,
    /// No answer.
    pub(crate) closed: usize,
    /// A check of the protocol failed.
    pub(crate) frozen: bool,
}

/// Our side of a session.
enum Side {
    Sign(Completing),
    Prepare(Presignature),
    /// We sent something else than the protocol says.
    Broken,
}

struct Open {
    id: [u8; 16],
    connection: u64,
    round2: Vec<u8>,
    side: Option<Side>,
}

struct Pre {
    id: [u8; 16],
    connection: u64,
    half: Option<Presignature>,
}

/// One input.
struct Run<'a> {
    bench: &'a mut Bench,
    /// Link ids of the four connections; the first two belong to one identity.
    connections: [u64; CONNECTIONS],
    stranger: Identity,
    revoked: [bool; 2],
    /// We sent a damaged protocol message: only then may a check fail.
    cheated: bool,
    frozen: bool,
    sessions: Vec<Open>,
    presigned: Vec<Pre>,
    given: HashSet<[u8; 16]>,
    sent: Vec<Incoming>,
    purchases: [[u8; 16]; 4],
    /// Micro-USD that must be held, and may be.
    least: HashMap<[u8; 16], u64>,
    most: HashMap<[u8; 16], u64>,
    told: Told,
}

impl<'a> Run<'a> {
    fn new(bench: &'a mut Bench) -> Self {
        let first = bench.connections + 1;
        bench.connections += CONNECTIONS as u64;
        Self {
            connections: std::array::from_fn(|n| first + n as u64),
            stranger: Identity::generate().unwrap(),
            revoked: [false; 2],
            cheated: false,
            frozen: false,
            sessions: Vec::new(),
            presigned: Vec::new(),
            given: HashSet::new(),
            sent: Vec::new(),
            purchases: std::array::from_fn(|_| rand::random()),
            least: HashMap::new(),
            most: HashMap::new(),
            told: Told::default(),
            bench,
        }
    }

    fn step(&mut self, [op, conn, a, b, c, d, e, f]: [u8; STEP]) {
        let conn = usize::from(conn) % CONNECTIONS;
        let hurt = Hurt { kind: d, at: usize::from(e) << 8 | usize::from(f) };
        match op % 16 {
            0 => self.hello(conn, a),
            1..=3 => self.begin(conn, a, b, c, hurt),
            4 | 5 => self.finish(conn, a, hurt),
            6 => self.prepare(conn, hurt),
            7 => self.prepared(conn, a, hurt),
            8 | 9 => self.present(conn, a, b, c),
            10 => self.settle(conn, a, b),
            11 => self.replay(a),
            12 => self.disconnect(conn),
            13 => self.advance(a),
            14 if a & 1 == 1 => self.new_policy(),
            14 => self.bench.server.sweep(),
            _ if a == 7 => self.revoke(conn),
            _ => self.nonsense(conn, a, &[b, c, d, e, f]),
        }
    }

    fn identity(&self, conn: usize) -> Identity {
        match conn {
            0 | 1 => self.bench.identities[0].clone(),
            2 => self.bench.identities[1].clone(),
            _ => self.stranger.clone(),
        }
    }

    /// Whether the key of that connection has any rights.
    fn is_known(&self, conn: usize) -> bool {
        match conn {
            0 | 1 => !self.revoked[0],
            2 => !self.revoked[1],
            _ => false,
        }
    }

    /// Sends a payload as the link hands it over; checks the form of the answer.
    fn ask<A: DeserializeOwned>(&mut self, conn: usize, path: &str, epoch: u32, payload: Vec<u8>) -> Option<Result<A, String>> {
        let identity = self.identity(conn);
        let header = Header {
            version: VERSION,
            path: path.to_owned(),
            sender: identity.fingerprint(),
            audience: identity.fingerprint(),
            epoch,
            id: rand::random(),
            at: clock::read().wall,
            payload: Sha256::digest(&payload).into(),
            request: None,
        };
        let opened = Envelope { header, payload };
        let request = Incoming { sender: identity.public().clone(), opened, connection: self.connections[conn], hash: rand::random() };
        self.sent.push(request.clone());
        // The link asks that first.
        let admitted = self.bench.server.admits(request.sender.fingerprint(), path);
        assert!(admitted == self.is_known(conn) || path == path::ENROLL, "admitted: {admitted}");
        let answer = self.deliver::<A>(request);
        assert!(answer.is_none() || self.is_known(conn) || path == path::ENROLL, "a key without rights was answered");
        answer
    }

    fn deliver<A: DeserializeOwned>(&mut self, request: Incoming) -> Option<Result<A, String>> {
        self.told.requests += 1;
        let reply = self.bench.runtime.block_on(self.bench.server.clone().answer(request));
        let frozen = self.bench.custody.frozen().is_some();
        assert!(!frozen || self.cheated, "honest messages froze the wallet");
        let Reply::Payload(payload) = reply else {
            self.told.closed += 1;
            self.frozen = frozen;
            return None;
        };
        let (answer, rest) = postcard::take_from_bytes::<Answer<A>>(&payload).expect("a whole answer");
        assert!(rest.is_empty());
        let answer = match answer {
            Answer::Yes(answer) => Ok(answer),
            Answer::No(refused) => {
                self.told.refused += 1;
                if std::env::var_os("TRACE_REFUSALS").is_some() {
                    eprintln!("refused: {}", refused.reason);
                }
                assert!(refused.reason == HELLO_FIRST || Reason::parse(&refused.reason).is_some(), "{}", refused.reason);
                assert_ne!(refused.reason, Reason::Internal.as_str());
                Err(refused.reason)
            }
        };
        // Frozen before this request: nothing is opened or signed any more.
        let words_only =
            std::any::type_name::<A>() == std::any::type_name::<Noted>() || std::any::type_name::<A>() == std::any::type_name::<Enrolled>();
        assert!(!self.frozen || answer.is_err() || words_only, "something was done for a frozen wallet");
        self.frozen = frozen;
        Some(answer)
    }

    fn say<A: DeserializeOwned>(&mut self, conn: usize, path: &str, question: &impl Serialize) -> Option<Result<A, String>> {
        self.ask(conn, path, 1, postcard::to_allocvec(question).unwrap())
    }

    fn hello(&mut self, conn: usize, kind: u8) {
        let (turn, next_turn) = self.bench.turns;
        let mut hello = Hello { wallet: "w1".into(), epoch: 1, turn, next_turn };
        match kind {
            250 => hello.wallet = "w2".into(),
            251 => hello.epoch = 2,
            252 => hello.turn = [1; 16],
            253 => hello.next_turn = rand::random(),
            _ => {}
        }
        let is_ours = (hello.turn, hello.next_turn) == (turn, next_turn) && hello.wallet == "w1" && hello.epoch == 1;
        let answer = self.say::<Welcome>(conn, path::HELLO, &hello);
        assert!(is_ours || !matches!(answer, Some(Ok(_))), "another turn was taken: {kind}");
    }

    fn intent(&self, slot: u8, price: u8, change: u8) -> Intent {
        let now = u64::try_from(clock::read().wall.secs()).unwrap();
        let wallet = self.bench.share.wallet();
        let purchase = self.purchases[usize::from(slot) % 4];
        let mut intent = Intent {
            version: VERSION,
            wallet: wallet.id.to_string(),
            epoch: wallet.epoch,
            purchase,
            key: [0; 16],
            agent: "bot".into(),
            chain: 84532,
            token: address!("036CbD53842c5426634e7929541eC2318f3dCF7e").into_array(),
            from: wallet.address.into_array(),
            to: [0x11; 20],
            value: U256::from(PRICES[usize::from(price) % PRICES.len()]).to_be_bytes(),
            valid_after: now - 60,
            // The same for a while, so that the same purchase can have the same digest again.
            valid_before: (now / 60 + 4) * 60,
            claims: Claims { host: "shop.example".into(), method: "GET".into(), price_micro: 1, ..Claims::default() },
            offer: None,
            grant: None,
        };
        intent.valid_after = intent.valid_before - 400;
        let digest = digest(&intent);
        intent.key = Sha256::new().chain_update(purchase).chain_update(digest).finalize()[..16].try_into().unwrap();
        match change {
            1 => intent.version = 0,
            2 => intent.epoch = 2,
            3 => intent.wallet.push('x'),
            4 => intent.agent = "other".into(),
            5 => intent.chain = 8453,
            6 => intent.token[0] ^= 1,
            7 => intent.from[0] ^= 1,
            8 => intent.to[0] ^= 1,
            9 => intent.valid_after = u64::MAX,
            10 => intent.valid_before = u64::MAX,
            11 => intent.valid_before = 0,
            12 => intent.key = [7; 16],
            13 => intent.claims.host = "evil.example".into(),
            14 => intent.claims.method = "\u{1}".into(),
            15 => intent.offer = Some("eyJhbGciOiJFUzI1NiJ9.e30.AAAA".into()),
            16 => intent.grant = Some(vec![1, 2, 3]),
            17 => intent.value = [0xff; 32],
            18 => intent.chain = 0,
            19 => intent.claims.url = Some("https://shop.example/../".into()),
            _ => {}
        }
        intent
    }

    /// Changes after which the judge may still say yes.
    fn is_payable(change: u8) -> bool {
        !(1..=11).contains(&change) && !(16..=18).contains(&change)
    }

    fn signed(&self, conn: usize, intent: &Intent, change: u8) -> SignedIntent {
        let identity = self.identity(conn);
        let bytes = postcard::to_allocvec(intent).unwrap();
        let mut signature = identity.sign("tollpass/intent/1", &bytes);
        if change == 20 {
            signature[8] ^= 1;
        }
        SignedIntent { bytes, signer: if change == 21 { [0; 32] } else { identity.fingerprint().0 }, signature }
    }

    /// A question about an intent was asked: what may be, and what must be, held now.
    fn book(&mut self, intent: &Intent, change: u8, yes: bool) {
        let value = U256::from_be_bytes(intent.value).try_into().unwrap_or(u64::MAX);
        if yes {
            assert!(Self::is_payable(change) && value > 0 && value <= 1_000_000, "change {change}, {value} units: accepted");
            let least = self.least.entry(intent.purchase).or_default();
            *least = value.max(*least);
        }
        if Self::is_payable(change) && value <= 1_000_000 {
            let most = self.most.entry(intent.purchase).or_default();
            *most = value.max(*most);
        }
    }

    fn begin(&mut self, conn: usize, slot: u8, price: u8, change: u8, hurt: Hurt) {
        let intent = self.intent(slot, price, change);
        let digest = if Self::is_payable(change) { digest(&intent) } else { B256::ZERO };
        let sign_id: [u8; 32] = rand::random();
        let (begun, mut round1) = Begun::new(self.bench.share.clone(), Party::Cosigner, sign_id, digest).unwrap();
        if hurt.kind == 9 {
            round1 = Cheat::begin(&self.bench.share, Party::Cosigner, sign_id, digest.0).probing(hurt.at % 256);
        }
        let honest = !hurt.apply(&mut round1) && hurt.kind != 9;
        self.cheated |= !honest;
        let question = Begin { intent: self.signed(conn, &intent, change), sign_id, round1 };
        let answer = self.say::<Opened>(conn, path::BEGIN, &question);
        self.book(&intent, change, matches!(answer, Some(Ok(_))));
        let Some(Ok(opened)) = answer else { return };
        let (side, round2) = match begun.advance(&opened.round1, &opened.round2) {
            Ok((completing, round2)) if honest => (Side::Sign(completing), round2),
            Ok((_, round2)) => (Side::Broken, round2),
            Err(abort) => {
                assert!(!honest, "the co-signer's own messages fail: {abort}");
                (Side::Broken, Vec::new())
            }
        };
        self.sessions.push(Open { id: opened.session, connection: self.connections[conn], round2, side: Some(side) });
    }

    /// Which of our sessions a step means.
    fn choose(&self, pick: u8) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| self.sessions.len() - 1 - usize::from(pick) % self.sessions.len())
    }

    fn finish(&mut self, conn: usize, pick: u8, hurt: Hurt) {
        let Some(at) = self.choose(pick) else { return };
        let session = &self.sessions[at];
        let (id, own, mut round2) = (session.id, session.connection == self.connections[conn], session.round2.clone());
        let hurts = hurt.apply(&mut round2);
        self.cheated |= hurts || matches!(session.side, Some(Side::Broken));
        let answer = self.say::<Finished>(conn, path::FINISH, &Finish { session: id, round2 });
        let Some(Ok(finished)) = answer else {
            if own && self.is_known(conn) {
                // Used up, whatever came of it, unless it was not looked at.
                self.sessions[at].side = self.sessions[at].side.take().filter(|_| answer.is_none());
            }
            return;
        };
        assert!(own, "a session of another connection was finished");
        assert!(self.given.insert(id), "a second partial for one session");
        assert!(!hurts, "a damaged message was signed for");
        self.told.partials += 1;
        let Some(Side::Sign(completing)) = self.sessions[at].side.take() else { panic!("a partial for a session that was none") };
        completing.complete(&Partial::from_bytes(finished.partial)).expect("the partial makes a valid signature");
    }

    fn prepare(&mut self, conn: usize, hurt: Hurt) {
        let sign_id: [u8; 32] = rand::random();
        let (begun, mut round1) = PreBegun::new(self.bench.share.clone(), Party::Cosigner, sign_id).unwrap();
        let hurts = hurt.apply(&mut round1);
        self.cheated |= hurts;
        let question = Prepare { wallet: "w1".into(), epoch: 1, sign_id, round1 };
        let Some(Ok(opened)) = self.say::<Opened>(conn, path::PREPARE, &question) else { return };
        let (side, round2) = match begun.advance(&opened.round1, &opened.round2) {
            Ok((half, round2)) if !hurts => (Side::Prepare(half), round2),
            Ok((_, round2)) => (Side::Broken, round2),
            Err(abort) => {
                assert!(hurts, "the co-signer's own messages fail: {abort}");
                (Side::Broken, Vec::new())
            }
        };
        self.sessions.push(Open { id: opened.session, connection: self.connections[conn], round2, side: Some(side) });
    }

    fn prepared(&mut self, conn: usize, pick: u8, hurt: Hurt) {
        let Some(at) = self.choose(pick) else { return };
        let session = &self.sessions[at];
        let (id, own, mut round2) = (session.id, session.connection == self.connections[conn], session.round2.clone());
        let hurts = hurt.apply(&mut round2);
        self.cheated |= hurts || matches!(session.side, Some(Side::Broken));
        let answer = self.say::<Kept>(conn, path::PREPARED, &Prepared { session: id, round2 });
        if !matches!(answer, Some(Ok(_))) {
            return;
        }
        assert!(own && self.given.insert(id), "one session, two presignatures");
        let half = match self.sessions[at].side.take() {
            Some(Side::Prepare(half)) => Some(half),
            Some(Side::Broken) => None,
            _ => panic!("a presignature of a session that was none"),
        };
        self.presigned.push(Pre { id, connection: self.connections[conn], half: half.filter(|_| !hurts) });
    }

    fn present(&mut self, conn: usize, pick: u8, slot: u8, change: u8) {
        if self.presigned.is_empty() {
            return;
        }
        let at = usize::from(pick) % self.presigned.len();
        let (id, own) = (self.presigned[at].id, self.presigned[at].connection == self.connections[conn]);
        let intent = self.intent(slot, pick / 16, change);
        let rho: [u8; 32] = rand::random();
        let question = Present { intent: self.signed(conn, &intent, change), session: id, rho };
        let answer = self.say::<Finished>(conn, path::PRESENT, &question);
        self.book(&intent, change, matches!(answer, Some(Ok(_))));
        let Some(Ok(finished)) = answer else { return };
        assert!(own, "a presignature of another connection was used");
        let mut used = id;
        used[0] ^= 0xff;
        assert!(self.given.insert(used), "a presignature was used twice");
        self.told.partials += 1;
        if let Some(half) = self.presigned[at].half.take() {
            half.complete(digest(&intent), rho, finished.rho, &Partial::from_bytes(finished.partial)).expect("a valid signature");
        }
    }

    fn settle(&mut self, conn: usize, slot: u8, word: u8) {
        let outcome = ["settled", "open", "lost", "void", ""][usize::from(word) % 5].to_owned();
        let settle = Settle { wallet: "w1".into(), purchase: self.purchases[usize::from(slot) % 4], outcome };
        self.say::<Noted>(conn, path::SETTLE, &settle);
    }

    fn replay(&mut self, pick: u8) {
        if self.sent.is_empty() {
            return;
        }
        let request = self.sent[usize::from(pick) % self.sent.len()].clone();
        // The link does not hand over what is older than its window.
        if clock::read().wall.millis() - request.opened.header.at.millis() <= tollpass::wire::envelope::WINDOW_MS {
            let answer = self.deliver::<Noted>(request);
            assert!(answer.is_none(), "a request was answered twice");
        }
    }

    fn disconnect(&mut self, conn: usize) {
        self.bench.server.gone(self.connections[conn]);
        self.bench.connections += 1;
        self.connections[conn] = self.bench.connections;
    }

    fn advance(&mut self, pick: u8) {
        let Some(file) = std::env::var_os(AHEAD).map(PathBuf::from) else { return };
        let before: u64 = std::fs::read_to_string(&file).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let ahead = before + [1, 5, 30, 61, 250, 3600][usize::from(pick) % 6] * 1000;
        let beside = file.with_extension("new");
        std::fs::write(&beside, ahead.to_string()).unwrap();
        std::fs::rename(beside, file).unwrap();
    }

    fn new_policy(&mut self) {
        let epoch = self.bench.epoch.load(Ordering::Acquire) + 1;
        let next = policy(epoch);
        self.bench.ledger.follow(&next);
        *self.bench.policy.lock().unwrap() = next;
        self.bench.epoch.store(epoch, Ordering::Release);
    }

    fn revoke(&mut self, conn: usize) {
        let who = conn / 2;
        if conn < 3 && !self.revoked[who] {
            let key = self.bench.identities[who].fingerprint().to_string();
            let revoked = self.bench.runtime.block_on(self.bench.store.revoke(&key, clock::read().wall));
            assert!(revoked.unwrap().is_some());
            self.revoked[who] = true;
        }
    }

    /// Any bytes on any path, also as a token; and a wrong epoch.
    fn nonsense(&mut self, conn: usize, pick: u8, bytes: &[u8]) {
        let paths = [path::HELLO, path::BEGIN, path::FINISH, path::PREPARE, path::PREPARED, path::PRESENT, path::SETTLE, "/v1/other"];
        let payload: Vec<u8> = bytes.iter().cycle().take(usize::from(pick) * 3).copied().collect();
        if pick & 0x80 != 0 {
            let token = String::from_utf8_lossy(&payload).into_owned();
            let answer = self.say::<Enrolled>(conn, path::ENROLL, &Enroll { token });
            assert!(!matches!(answer, Some(Ok(_))), "a guessed token");
            return;
        }
        let path = paths[usize::from(pick) % paths.len()];
        let answer = self.ask::<Noted>(conn, path, u32::from(bytes[0] & 1), payload);
        assert!(!matches!(answer, Some(Ok(_))), "nonsense was accepted at {path}");
    }

    /// Every connection goes; then the rules about what is left.
    fn end(mut self) -> Told {
        for connection in self.connections {
            self.bench.server.gone(connection);
        }
        self.bench.server.refresh_gauges();
        let text = self.bench.metrics.render();
        for gauge in ["tollpass_cosigner_sessions_open{", "tollpass_cosigner_presignatures{"] {
            let line = text.lines().find(|l| l.starts_with(gauge)).expect("a gauge");
            assert!(line.ends_with(" 0"), "left open: {line}");
        }
        for purchase in &self.purchases {
            let id = PurchaseId::from_bytes(*purchase);
            let held = self.bench.ledger.read(|books| books.purchase(&id).map_or(0, |p| MicroUsd::micro(p.held)));
            let (least, most) = (self.least.get(purchase).copied().unwrap_or(0), self.most.get(purchase).copied().unwrap_or(0));
            let held = u64::try_from(held).unwrap();
            assert!((least..=most).contains(&held), "{held} held, accepted {least}, asked at most {most}");
        }
        for who in 0..2 {
            if self.revoked[who] {
                self.bench.enrol(who);
            }
        }
        self.told.frozen = self.frozen;
        self.told
    }
}

/// Damage of a protocol message.
#[derive(Clone, Copy)]
struct Hurt {
    kind: u8,
    at: usize,
}

impl Hurt {
    /// True if the message is not what it was.
    fn apply(self, message: &mut Vec<u8>) -> bool {
        let before = message.clone();
        let len = message.len().max(1);
        let at = self.at % len;
        match self.kind {
            1 => message.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1),
            2 => message.iter_mut().skip(at).take(1).for_each(|b| *b ^= 0x80),
            3 => message.truncate(at),
            4 => message.push(0),
            5 => message.iter_mut().skip(at).take(32).for_each(|b| *b = 0),
            6 => message.iter_mut().skip(at).take(32).for_each(|b| *b = 0xff),
            7 => message.rotate_left(at),
            8 => message.clear(),
            _ => {}
        }
        *message != before
    }
}

fn digest(intent: &Intent) -> B256 {
    let table = AssetTable::shipped();
    let asset = table.iter().find(|a| a.id.chain.id() == intent.chain && a.id.token == Address::from(intent.token)).unwrap().clone();
    let from = Address::from(intent.from);
    Authorization {
        asset,
        from: tollpass::payment::Payer(from),
        to: Payee(Address::from(intent.to)),
        value: U256::from_be_bytes(intent.value),
        valid_after: intent.valid_after,
        valid_before: intent.valid_before,
        nonce: Nonce::derive(from, &PurchaseId::from_bytes(intent.purchase)),
    }
    .digest()
}
