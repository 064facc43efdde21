//! What was stolen, and how to ask for signatures with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256, hex};
use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tollpass::custody::{Custody, Unseal};
use tollpass::mpc::{Begun, Partial, Party, Share};
use tollpass::payment::{AssetTable, Authorization, Nonce, Payee, Payer, PurchaseId};
use tollpass::wire::identity::Identity;
use tollpass::wire::link::{Client, Peer};
use tollpass::wire::message::{
    Answer, Begin, Claims, Finish, Finished, HELLO_FIRST, Hello, Intent, Noted, Opened, Refused, Settle, SignedIntent, VERSION, Welcome,
    path,
};

/// USDC on Base Sepolia: test money.
pub(crate) const CHAIN: u64 = 84532;
const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PATIENCE: Duration = Duration::from_secs(20);

/// The loot.
#[derive(Clone)]
pub(crate) struct Loot {
    pub(crate) identity: Identity,
    pub(crate) share: Arc<Share>,
    /// The stolen folder, with the turn token of the sidecar's last run: the thief goes on where that one was.
    custody: Arc<Custody>,
    greeted: Arc<(AtomicU64, tokio::sync::Mutex<()>)>,
    client: Client,
    assets: Arc<AssetTable>,
}

/// How a request went.
#[derive(Debug)]
pub(crate) enum Got {
    /// A signature, as a line for the chain.
    Signature(Box<serde_json::Value>),
    /// The co-signer's refusal.
    No(Refused),
    /// No answer, or none that could be used.
    Nothing(String),
}

/// One thing to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) agent: String,
    pub(crate) to: Address,
    pub(crate) value: u64,
    pub(crate) purchase: [u8; 16],
    pub(crate) host: String,
    pub(crate) lifetime: u64,
}

impl Loot {
    pub(crate) fn open(args: &crate::Args) -> Result<Self> {
        let pem = std::fs::read_to_string(&args.identity).context("identity")?;
        let identity = Identity::from_pem(&pem).context("identity")?;
        let custody = Arc::new(Custody::open(&args.share, &Unseal::File(args.passphrase.clone())).context("share")?);
        let share = custody.share().clone();
        let peer = Peer { authority: args.cosigner.clone(), pin: args.pin.parse().context("--pin")? };
        let client = Client::new(identity.clone(), peer, PATIENCE);
        let (greeted, assets) = (Arc::default(), Arc::new(AssetTable::shipped()));
        Ok(Self { identity, share, custody, greeted, client, assets })
    }

    /// The thief's watch, seconds.
    pub(crate) fn now() -> u64 {
        u64::try_from(tollpass::clock::read().wall.secs()).unwrap_or(0)
    }

    fn authorization(&self, want: &Want) -> Result<Authorization> {
        let token: Address = TOKEN.parse()?;
        let asset = self.assets.iter().find(|a| a.id.chain.id() == CHAIN && a.id.token == token).context("the test token")?.clone();
        let from = Payer(self.share.wallet().address);
        let now = Self::now();
        Ok(Authorization {
            asset,
            from,
            to: Payee(want.to),
            value: U256::from(want.value),
            valid_after: now.saturating_sub(60),
            valid_before: now + want.lifetime,
            nonce: Nonce::derive(from.0, &PurchaseId::from_bytes(want.purchase)),
        })
    }

    /// The signed intent for an authorization, with whatever claims.
    fn intent(&self, want: &Want, authorization: &Authorization, key: Option<[u8; 16]>) -> Result<SignedIntent> {
        let digest = authorization.digest();
        let derived = || {
            let hash = Sha256::new().chain_update(want.purchase).chain_update(digest).finalize();
            let mut key = [0; 16];
            key.copy_from_slice(&hash[..16]);
            key
        };
        let wallet = self.share.wallet();
        let intent = Intent {
            version: VERSION,
            wallet: wallet.id.to_string(),
            epoch: wallet.epoch,
            purchase: want.purchase,
            key: key.unwrap_or_else(derived),
            agent: want.agent.clone(),
            chain: CHAIN,
            token: authorization.asset.id.token.into_array(),
            from: authorization.from.0.into_array(),
            to: want.to.into_array(),
            value: authorization.value.to_be_bytes(),
            valid_after: authorization.valid_after,
            valid_before: authorization.valid_before,
            claims: Claims { host: want.host.clone(), method: "GET".into(), price_micro: 1, ..Claims::default() },
            offer: None,
            grant: None,
        };
        let bytes = postcard::to_allocvec(&intent)?;
        let signature = self.identity.sign("tollpass/intent/1", &bytes);
        Ok(SignedIntent { bytes, signer: self.identity.public().fingerprint().0, signature })
    }

    /// Asks; a connection that is new to the co-signer is greeted first, as a sidecar does.
    async fn call<Q: Serialize, A: DeserializeOwned>(&self, path: &'static str, question: &Q) -> Result<Answer<A>> {
        let before = self.greeted.0.load(Ordering::Acquire);
        match self.once(path, question).await? {
            Answer::No(refused) if refused.reason == HELLO_FIRST => {}
            answer => return Ok(answer),
        }
        self.greet(before).await?;
        self.once(path, question).await
    }

    async fn greet(&self, before: u64) -> Result<()> {
        let _one = self.greeted.1.lock().await;
        if self.greeted.0.load(Ordering::Acquire) != before {
            return Ok(());
        }
        let wallet = self.share.wallet();
        // An exchange that the sidecar left open is finished first.
        for _ in 0..3 {
            let (turn, next_turn) = self.custody.turn()?;
            let hello = Hello { wallet: wallet.id.to_string(), epoch: wallet.epoch, turn, next_turn };
            if let Answer::No(refused) = self.once::<_, Welcome>(path::HELLO, &hello).await? {
                bail!("not taken: {}", refused.reason);
            }
            if self.custody.turned()? {
                self.greeted.0.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
        }
        bail!("the turn tokens do not come to an end")
    }

    async fn once<Q: Serialize, A: DeserializeOwned>(&self, path: &'static str, question: &Q) -> Result<Answer<A>> {
        let epoch = self.share.wallet().epoch;
        let payload = postcard::to_allocvec(question)?;
        let bytes = self.client.call(path, epoch, &payload, Instant::now() + PATIENCE).await.map_err(|e| anyhow!("{e}"))?;
        Ok(postcard::from_bytes(&bytes)?)
    }

    /// Asks for one signature, all the way.
    pub(crate) async fn ask(&self, want: &Want) -> Got {
        self.ask_under(want, None).await
    }

    /// The same under a chosen idempotency key.
    pub(crate) async fn ask_under(&self, want: &Want, key: Option<[u8; 16]>) -> Got {
        match self.try_ask(want, key).await {
            Ok(got) => got,
            Err(error) => Got::Nothing(format!("{error:#}")),
        }
    }

    async fn try_ask(&self, want: &Want, key: Option<[u8; 16]>) -> Result<Got> {
        let authorization = self.authorization(want)?;
        let intent = self.intent(want, &authorization, key)?;
        let sign_id = rand::random::<[u8; 32]>();
        let (share, digest) = (self.share.clone(), authorization.digest());
        let (begun, round1) = crypto(move || Begun::new(share, Party::Cosigner, sign_id, digest)).await??;
        let opened: Opened = match self.call(path::BEGIN, &Begin { intent, sign_id, round1 }).await? {
            Answer::Yes(opened) => opened,
            Answer::No(refused) => return Ok(Got::No(refused)),
        };
        let (session, r1, r2) = (opened.session, opened.round1, opened.round2);
        let (completing, round2) = crypto(move || begun.advance(&r1, &r2)).await??;
        let finished: Finished = match self.call(path::FINISH, &Finish { session, round2 }).await? {
            Answer::Yes(finished) => finished,
            Answer::No(refused) => return Ok(Got::No(refused)),
        };
        let rsv = crypto(move || completing.complete(&Partial::from_bytes(finished.partial))).await??;
        Ok(Got::Signature(Box::new(line(want, &authorization, digest, &rsv))))
    }

    /// Tells the co-signer that a purchase came to nothing. A lie.
    pub(crate) async fn lie(&self, purchase: [u8; 16]) -> Result<()> {
        let wallet = self.share.wallet().id.to_string();
        let _: Answer<Noted> = self.call(path::SETTLE, &Settle { wallet, purchase, outcome: "void".into() }).await?;
        Ok(())
    }
}

/// The protocol takes milliseconds of computing: not on the runtime's workers.
async fn crypto<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn line(want: &Want, a: &Authorization, digest: B256, rsv: &[u8; 65]) -> serde_json::Value {
    let Payer(from) = a.from;
    serde_json::json!({
        "agent": want.agent,
        "from": from.to_string(),
        "to": a.to.0.to_string(),
        "value": a.value.to_string(),
        "validAfter": a.valid_after,
        "validBefore": a.valid_before,
        "nonce": a.nonce.bytes().to_string(),
        "digest": digest.to_string(),
        "signature": format!("0x{}", hex::encode(rsv)),
    })
}
