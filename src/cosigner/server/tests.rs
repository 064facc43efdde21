//! The service without its link: every request as the link would hand it over, from a peer that has the sidecar's loot.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use alloy_primitives::{Address, B256, U256};
use rand::random;
use tempfile::TempDir;

use super::*;
use crate::config::Secret;
use crate::cosigner::judge::Surroundings;
use crate::custody::{Frozen, Unseal};
use crate::ledger::{self, ClockReading, Ledger};
use crate::mpc::testing::{Cheat, secret_bit};
use crate::mpc::{Begun, Partial, Share, testing};
use crate::payment::{AgentId, AssetTable, Authorization, ChainId, Nonce, Payee, Payer, PurchaseId};
use crate::policy::{Policy, Source};
use crate::wire::envelope::{Header, Opened as Envelope};
use crate::wire::identity::Identity;
use crate::wire::message::{Claims, Finished, Intent, Opened, SignedIntent, VERSION};

const POLICY: &str = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 5 }\n    allow:\n      - { id: shop, host: shop.example, networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"0x1111111111111111111111111111111111111111\"] }\n";

struct World {
    policy: Arc<Policy>,
    custody: Arc<Custody>,
    store: Arc<Store>,
}

impl Surroundings for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }
    fn clock(&self) -> ClockReading {
        clock::read()
    }
    fn frozen(&self) -> bool {
        self.custody.frozen().is_some()
    }
    fn tied(&self, identity: &str, agent: &AgentId) -> bool {
        self.store.standing(identity).unwrap().is_some_and(|row| row.agents.iter().any(|a| a == agent.as_str()))
    }
    fn agent_not_tied(&self, _: &str) {}
}

/// A co-signer, and what a thief of the sidecar has: its share and its key.
struct Rig {
    server: Arc<Server>,
    share: Arc<Share>,
    cosigners: Arc<Custody>,
    identity: Identity,
    /// End of every window: one purchase asked for again is the same intent.
    until: u64,
    dir: TempDir,
}

fn unseal() -> Unseal {
    Unseal::Value(Secret::new("open"))
}

fn serve(dir: &Path) -> (Arc<Server>, Arc<Custody>) {
    let custody = Arc::new(Custody::open(&dir.join("share"), &unseal()).unwrap());
    let store = Arc::new(Store::open(dir).unwrap());
    let options = ledger::Options { dir: dir.to_owned(), ephemeral_ok: true, accept_clock: false };
    let ledger = Ledger::open(&options, clock::read()).unwrap();
    let source = Source { name: "policy.yaml".into(), text: POLICY.into() };
    let policy = Arc::new(Policy::parse_for_cosigner(&[source], 1).unwrap());
    ledger.set_epoch(1);
    let world = World { policy, custody: Arc::clone(&custody), store: Arc::clone(&store) };
    let judge = Judge::new(custody.share().wallet().clone(), ledger, Arc::clone(&store), Arc::new(world), None);
    let server = Server::new(Parts {
        custody: Arc::clone(&custody),
        store,
        judge: Arc::new(judge),
        crew: Crew::start("test", 1, 8).unwrap(),
        metrics: Metrics::new(false),
        policy: Box::new(|| 1),
        presign: false,
    });
    (server, custody)
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [share, two, _] = testing::deal("w1");
        std::fs::create_dir(dir.path().join("share")).unwrap();
        Custody::create(&dir.path().join("share"), &two, &unseal()).unwrap();
        let (server, cosigners) = serve(dir.path());
        let identity = Identity::generate().unwrap();
        let until = u64::try_from(server.now().secs()).unwrap() + 300;
        let rig = Self { server, share: Arc::new(share), cosigners, identity, until, dir };
        let (name, wallet) = ("sidecar".parse().unwrap(), "w1".parse().unwrap());
        let issued = super::super::registry::issue(&rig.server.store, &name, &wallet, &["bot".parse().unwrap()], rig.server.now()).await;
        let token = issued.unwrap().0.to_string();
        let enrolled: Answer<Enrolled> = rig.ask(1, path::ENROLL, &Enroll { token }).await.unwrap();
        assert!(matches!(enrolled, Answer::Yes(_)));
        rig.hello(1, [0; 16], [1; 16]).await;
        rig
    }

    async fn hello(&self, connection: u64, turn: [u8; 16], next_turn: [u8; 16]) -> Answer<Welcome> {
        self.ask(connection, path::HELLO, &Hello { wallet: "w1".into(), epoch: 1, turn, next_turn }).await.unwrap()
    }

    fn incoming(&self, connection: u64, path: &str, payload: Vec<u8>) -> Incoming {
        let sender = self.identity.public().clone();
        let header = Header {
            version: VERSION,
            path: path.to_owned(),
            sender: sender.fingerprint(),
            audience: Fingerprint([0; 32]),
            epoch: 1,
            id: random(),
            at: self.server.now(),
            payload: [0; 32],
            request: None,
        };
        Incoming { sender, opened: Envelope { header, payload }, connection, hash: [0; 32] }
    }

    async fn send<A: DeserializeOwned>(&self, request: Incoming) -> Option<Answer<A>> {
        match Arc::clone(&self.server).answer(request).await {
            Reply::Payload(bytes) => Some(postcard::from_bytes(&bytes).unwrap()),
            Reply::Close => None,
        }
    }

    /// `None` if the connection was closed instead.
    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, connection: u64, path: &str, question: &Q) -> Option<Answer<A>> {
        self.send(self.incoming(connection, path, postcard::to_allocvec(question).unwrap())).await
    }

    fn intent(&self, purchase: [u8; 16]) -> (SignedIntent, B256) {
        let table = AssetTable::shipped();
        let chain = ChainId::new(84532).unwrap();
        let asset = table.iter().find(|a| a.id.chain == chain).unwrap();
        let payee = Address::repeat_byte(0x11);
        let from = Payer(self.share.wallet().address);
        let id = PurchaseId::from_bytes(purchase);
        let authorization = Authorization {
            asset: Arc::clone(asset),
            from,
            to: Payee(payee),
            value: U256::from(10_000),
            valid_after: 0,
            valid_before: self.until,
            nonce: Nonce::derive(from.0, &id),
        };
        let intent = Intent {
            version: VERSION,
            wallet: "w1".into(),
            epoch: 1,
            purchase,
            key: purchase,
            agent: "bot".into(),
            chain: 84532,
            token: asset.id.token.into(),
            from: from.0.into(),
            to: payee.into(),
            value: U256::from(10_000).to_be_bytes(),
            valid_after: 0,
            valid_before: self.until,
            claims: Claims { host: "shop.example".into(), method: "GET".into(), ..Claims::default() },
            offer: None,
            grant: None,
        };
        let bytes = postcard::to_allocvec(&intent).unwrap();
        let signature = self.identity.sign("tollpass/intent/1", &bytes);
        (SignedIntent { bytes, signer: self.identity.public().fingerprint().0, signature }, authorization.digest())
    }

    fn begin(&self, purchase: [u8; 16]) -> (Begun, Begin, B256) {
        let (intent, digest) = self.intent(purchase);
        let sign_id = random();
        let (begun, round1) = Begun::new(Arc::clone(&self.share), Party::Cosigner, sign_id, digest).unwrap();
        (begun, Begin { intent, sign_id, round1 }, digest)
    }

    /// A session that is half open on `connection`.
    async fn open(&self, connection: u64, purchase: [u8; 16]) -> (crate::mpc::Completing, Finish) {
        let (begun, begin, _) = self.begin(purchase);
        let opened: Opened = yes_of(self.ask(connection, path::BEGIN, &begin).await);
        let (completing, round2) = begun.advance(&opened.round1, &opened.round2).unwrap();
        (completing, Finish { session: opened.session, round2 })
    }
}

#[track_caller]
fn yes_of<A>(answer: Option<Answer<A>>) -> A {
    match answer {
        Some(Answer::Yes(value)) => value,
        Some(Answer::No(refused)) => panic!("{refused:?}"),
        None => panic!("closed"),
    }
}

#[track_caller]
fn no_of<A>(answer: Option<Answer<A>>) -> String {
    match answer {
        Some(Answer::No(refused)) => refused.reason,
        Some(Answer::Yes(_)) => panic!("was answered"),
        None => "closed".into(),
    }
}

#[tokio::test]
async fn two_round_trips_give_one_signature_and_a_session_one_partial() {
    let rig = Rig::new().await;
    let (completing, finish) = rig.open(1, [1; 16]).await;
    let finished: Finished = yes_of(rig.ask(1, path::FINISH, &finish).await);
    assert!(finished.head > 0 && finished.remaining_micro == Some(4_990_000), "{finished:?}");
    let rsv = completing.complete(&Partial::from_bytes(finished.partial)).unwrap();
    assert!(rsv[64] == 27 || rsv[64] == 28);
    assert_eq!(no_of::<Finished>(rig.ask(1, path::FINISH, &finish).await), "session_lost");
}

#[tokio::test]
async fn a_replayed_request_is_not_answered_and_nothing_is_held_twice() {
    let rig = Rig::new().await;
    let (_, begin, _) = rig.begin([1; 16]);
    let request = rig.incoming(1, path::BEGIN, postcard::to_allocvec(&begin).unwrap());
    let _: Opened = yes_of(rig.send(request.clone()).await);
    assert_eq!(no_of::<Opened>(rig.send(request).await), "closed");
}

#[tokio::test]
async fn a_session_belongs_to_its_connection_and_ends_with_it() {
    let rig = Rig::new().await;
    let (_, finish) = rig.open(1, [1; 16]).await;
    assert_eq!(no_of::<Finished>(rig.ask(2, path::FINISH, &finish).await), "session_lost");
    let _: Finished = yes_of(rig.ask(1, path::FINISH, &finish).await);
    let (_, finish) = rig.open(1, [2; 16]).await;
    rig.server.gone(1);
    assert_eq!(rig.server.sessions.count().0, 0);
    assert_eq!(no_of::<Finished>(rig.ask(1, path::FINISH, &finish).await), "session_lost");
    let (_, begin, _) = rig.begin([3; 16]);
    assert_eq!(no_of::<Opened>(rig.ask(3, path::BEGIN, &begin).await), HELLO_FIRST, "a new connection has to greet");
}

#[tokio::test]
async fn a_revoked_identity_loses_its_half_open_session() {
    let rig = Rig::new().await;
    let (_, finish) = rig.open(1, [1; 16]).await;
    let command = Store::open(rig.dir.path()).unwrap();
    assert!(command.revoke("sidecar", rig.server.now()).await.unwrap().is_some());
    assert!(!rig.server.admits(rig.identity.public().fingerprint(), path::FINISH));
    assert_eq!(no_of::<Finished>(rig.ask(1, path::FINISH, &finish).await), "closed");
    assert_eq!(rig.server.sessions.count().0, 0);
}

#[tokio::test]
async fn an_identity_has_sixty_four_half_open_sessions_and_one_per_purchase() {
    let rig = Rig::new().await;
    for n in 0..64u8 {
        rig.open(1, [n; 16]).await;
    }
    let (_, begin, _) = rig.begin([64; 16]);
    assert_eq!(no_of::<Opened>(rig.ask(1, path::BEGIN, &begin).await), "cosigner_busy");
    let (_, finish) = rig.open(1, [7; 16]).await;
    assert_eq!(rig.server.sessions.count().0, 64, "asked again, it replaces its own");
    let _: Finished = yes_of(rig.ask(1, path::FINISH, &finish).await);
}

#[tokio::test]
async fn an_older_turn_token_is_a_copy_also_on_an_open_connection() {
    let rig = Rig::new().await;
    assert!(matches!(rig.hello(2, [1; 16], [2; 16]).await, Answer::Yes(_)), "the copy speaks first");
    let (_, begin, _) = rig.begin([1; 16]);
    assert_eq!(no_of::<Opened>(rig.ask(1, path::BEGIN, &begin).await), "share_copied");
    assert_eq!(no_of::<Welcome>(Some(rig.hello(1, [1; 16], [3; 16]).await)), "share_copied");
}

#[tokio::test]
async fn an_intent_of_another_key_is_not_looked_at() {
    let rig = Rig::new().await;
    let (_, mut begin, _) = rig.begin([1; 16]);
    begin.intent.signature = Identity::generate().unwrap().sign("tollpass/intent/1", &begin.intent.bytes);
    assert_eq!(no_of::<Opened>(rig.ask(1, path::BEGIN, &begin).await), "closed");
    let (_, mut begin, _) = rig.begin([2; 16]);
    begin.intent.bytes[20] ^= 1;
    assert_eq!(no_of::<Opened>(rig.ask(1, path::BEGIN, &begin).await), "closed");
}

#[tokio::test]
async fn a_failed_check_freezes_the_wallet_for_good_and_says_no_more_than_that() {
    let rig = Rig::new().await;
    let (_, finish) = rig.open(1, [200; 16]).await;
    let bit = (0..256).find(|i| secret_bit(rig.cosigners.share(), Party::Sidecar, *i)).unwrap();
    let (intent, digest) = rig.intent([1; 16]);
    let sign_id = random();
    let cheat = Cheat::begin(&rig.share, Party::Cosigner, sign_id, digest.0);
    let mut round1 = cheat.probing(bit);
    let mut answer = no_or_open(rig.ask(1, path::BEGIN, &Begin { intent, sign_id, round1 }).await);
    if answer == "opened" {
        // The other value of the bit is the one that fails.
        let other = (0..256).find(|i| !secret_bit(rig.cosigners.share(), Party::Sidecar, *i)).unwrap();
        let (intent, digest) = rig.intent([2; 16]);
        let cheat = Cheat::begin(&rig.share, Party::Cosigner, sign_id, digest.0);
        round1 = cheat.probing(other);
        answer = no_or_open(rig.ask(1, path::BEGIN, &Begin { intent, sign_id, round1 }).await);
    }
    assert_eq!(answer, "wallet_frozen");
    assert_eq!(no_of::<Finished>(rig.ask(1, path::FINISH, &finish).await), "wallet_frozen", "queued work stops too");
    assert!(matches!(rig.cosigners.frozen(), Some(Frozen::Banned { peer: Party::Sidecar, .. })));
    let Rig { server, cosigners, dir, .. } = rig;
    drop((server, cosigners));
    assert!(Custody::open(&dir.path().join("share"), &unseal()).is_err(), "and after a restart");
}

fn no_or_open(answer: Option<Answer<Opened>>) -> String {
    match answer {
        Some(Answer::Yes(_)) => "opened".into(),
        other => no_of(other),
    }
}
