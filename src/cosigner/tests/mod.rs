//! The judge over a real ledger, a real store and real keys.
#![allow(clippy::unwrap_used)]

mod judging;
mod money;
mod proofs;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, U256};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::judge::{Judge, Permit, Standing, Surroundings};
use super::probe::Probe;
use super::store::Store;
use crate::ledger::{self, ClockReading, Ledger};
use crate::mpc::{Origin, Party, Wallet};
use crate::payment::{AgentId, AssetId, Authorization, Nonce, Payee, Payer, PurchaseId, Timestamp};
use crate::policy::{Policy, Source};
use crate::wire::message::{Claims, Intent, Refused, VERSION};

/// 2026-11-21T12:00:00Z.
const NOW: i64 = 1_795_262_400;
const BASE_USDC: &str = "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
const WALLET: Address = Address::repeat_byte(0xee);

const POLICY: &str = "version: 1
caps: { payee: { day: 1 }, identity: { day: 2 }, wallet: { day: 3 } }
live: 2.5
unverified: { per_payment: 0.02, day: 0.05 }
agents:
  bot:
    caps: { per_payment: 0.5, day: 1.5 }
    allow:
      - { id: listed, host: api.example, networks: ['eip155:8453'], pay_to: ['0x1111111111111111111111111111111111111111', '0x1212121212121212121212121212121212121212'] }
      - { id: trial, host: test.example, networks: ['eip155:84532'], pay_to: ['0x1111111111111111111111111111111111111111'] }
      - { id: rest, host: '*', any_host: true, networks: ['eip155:8453'], pay_to: any, methods: [GET] }
    deny:
      - { id: casino, host: casino.example }
  other: { caps: { per_payment: 0.5, day: 1 }, allow: [ { id: listed, host: api.example, networks: ['eip155:8453'], pay_to: ['0x1111111111111111111111111111111111111111'] } ] }
";

fn policy(text: &str, epoch: u64) -> Arc<Policy> {
    Policy::parse_for_cosigner(&[Source { name: "p.yaml".into(), text: text.into() }], epoch).unwrap_or_else(|e| panic!("{e}")).into()
}

/// What the judge looks at, for a test to change.
struct World {
    policy: Mutex<Arc<Policy>>,
    seconds: AtomicI64,
    jumped: AtomicI64,
    frozen: AtomicBool,
    revoked: AtomicBool,
    alarms: AtomicU32,
}

impl Surroundings for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.lock().unwrap())
    }
    fn clock(&self) -> ClockReading {
        let passed = self.seconds.load(Ordering::Relaxed);
        let wall = Timestamp::from_secs(NOW + passed + self.jumped.load(Ordering::Relaxed));
        ClockReading { wall, boot_ms: (1000 + passed) * 1000 }
    }
    fn frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }
    fn tied(&self, identity: &str, _: &AgentId) -> bool {
        identity == "sidecar" && !self.revoked.load(Ordering::Relaxed)
    }
    fn agent_not_tied(&self, _: &str) {
        self.alarms.fetch_add(1, Ordering::Relaxed);
    }
}

/// A judge with everything under it.
struct Court {
    dir: TempDir,
    world: Arc<World>,
    ledger: Ledger,
    judge: Judge,
}

fn wallet(origin: Origin) -> Wallet {
    Wallet {
        id: "treasury".parse().unwrap(),
        address: WALLET,
        party: Party::Cosigner,
        epoch: 3,
        ceremony: [1; 32],
        origin,
        recovery: None,
        identities: std::collections::BTreeMap::new(),
    }
}

impl Court {
    fn new(text: &str) -> Self {
        Self::with(text, Origin::Distributed, None)
    }

    fn with(text: &str, origin: Origin, probe: Option<Probe>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, text, origin, probe)
    }

    fn open(dir: TempDir, text: &str, origin: Origin, probe: Option<Probe>) -> Self {
        let world = Arc::new(World {
            policy: Mutex::new(policy(text, 1)),
            seconds: AtomicI64::new(0),
            jumped: AtomicI64::new(0),
            frozen: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            alarms: AtomicU32::new(0),
        });
        let (ledger, store) = open_both(dir.path(), world.clock());
        let around: Arc<dyn Surroundings> = world.clone();
        let judge = Judge::new(wallet(origin), ledger.clone(), Arc::new(store), around, probe);
        Self { dir, world, ledger, judge }
    }

    /// The process ends and starts again on the same folder.
    fn restart(self, text: &str) -> Self {
        let Self { dir, world, ledger, judge } = self;
        drop((judge, ledger, world));
        Self::open(dir, text, Origin::Distributed, None)
    }

    async fn ask(&self, intent: &Intent) -> Result<Permit, Refused> {
        self.judge.consider(intent, &standing("sidecar", &["bot"])).await
    }

    async fn reason(&self, intent: &Intent) -> String {
        short(self.ask(intent).await)
    }

    fn pass(&self, seconds: i64) {
        self.world.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Held for the agent in all, micro-USD.
    fn held(&self) -> i64 {
        self.ledger.read(|books| books.open().map(|p| p.held.micro()).sum())
    }
}

fn open_both(dir: &Path, clock: ClockReading) -> (Ledger, Store) {
    let options = ledger::Options { dir: dir.to_owned(), ephemeral_ok: true, accept_clock: false };
    (Ledger::open(&options, clock).unwrap(), Store::open(dir).unwrap())
}

fn standing(identity: &str, agents: &[&str]) -> Standing {
    Standing { identity: identity.into(), agents: agents.iter().map(|a| a.parse().unwrap()).collect() }
}

fn short(answer: Result<Permit, Refused>) -> String {
    answer.map_or_else(|refused| refused.reason, |_| "permit".into())
}

/// A purchase of `micro` from payee 0x1111… by the sidecar, as the signer of the proxy would make it.
fn intent(purchase: u8, micro: u64) -> Intent {
    let asset: AssetId = BASE_USDC.parse().unwrap();
    let intent = Intent {
        version: VERSION,
        wallet: "treasury".into(),
        epoch: 3,
        purchase: [purchase; 16],
        key: [0; 16],
        agent: "bot".into(),
        chain: asset.chain.id(),
        token: asset.token.into(),
        from: WALLET.into(),
        to: [0x11; 20],
        value: U256::from(micro).to_be_bytes(),
        valid_after: 0,
        valid_before: u64::try_from(NOW).unwrap() + 300,
        claims: Claims { host: "api.example".into(), method: "GET".into(), ..Claims::default() },
        offer: None,
        grant: None,
    };
    keyed(intent)
}

/// What a test changes in an intent, with the key that belongs to the new digest.
fn but(mut intent: Intent, change: impl FnOnce(&mut Intent)) -> Intent {
    change(&mut intent);
    keyed(intent)
}

fn keyed(mut intent: Intent) -> Intent {
    let digest = expected(&intent).map_or([0; 32], |a| a.digest().0);
    intent.key.copy_from_slice(&Sha256::digest([&intent.purchase[..], &digest].concat())[..16]);
    intent
}

/// The authorization that an honest proxy has in mind.
fn expected(intent: &Intent) -> Option<Authorization> {
    let chain = crate::payment::ChainId::new(intent.chain)?;
    let table = crate::payment::AssetTable::shipped();
    let asset = table.get(&AssetId { chain, token: intent.token.into() })?.clone();
    Some(Authorization {
        asset,
        from: Payer(intent.from.into()),
        to: Payee(intent.to.into()),
        value: U256::from_be_bytes(intent.value),
        valid_after: intent.valid_after,
        valid_before: intent.valid_before,
        nonce: Nonce::derive(WALLET, &PurchaseId::from_bytes(intent.purchase)),
    })
}
