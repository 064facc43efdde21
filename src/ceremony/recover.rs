//! Recovery: two of the three move an asset to the address that was fixed when the wallet was created, and nowhere else (S7).

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use super::post::round;
use super::worker::Worker;
use super::{CeremonyError, Circle, Seat, Step, Tell, trial};
use crate::mpc::{Origin, Party, Wallet};
use crate::payment::{Asset, Authorization, Nonce, Payee, Payer, Signed};

/// How long the authorization can be settled, from the first party's clock.
const VALID: u64 = 3600;
/// What the second party accepts of it by its own clock: room for clocks that differ.
const ACCEPTED: std::ops::RangeInclusive<u64> = VALID - 900..=VALID + 900;

/// What this machine brings.
pub struct Here {
    /// The asset, of our own table.
    pub asset: Arc<Asset>,
    /// Atomic units.
    pub value: U256,
    /// Unix seconds.
    pub now: u64,
    /// Runs [`super::worker::serve`] on the share, frozen or not, in a new process.
    pub reopen: Box<dyn Fn() -> Command + Send + Sync>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Terms {
    wallet: String,
    address: Address,
    ceremony: [u8; 32],
    epoch: u32,
    to: Address,
    chain: u64,
    token: Address,
    value: [u8; 32],
    /// The first party's; the second one proposes nothing.
    valid_before: u64,
}

/// Runs the whole ceremony between the two parties of `seat`; both get the signed authorization.
///
/// # Errors
/// [`CeremonyError`].
pub async fn recover(seat: Seat, here: &Here, tell: Tell<'_>) -> Step<Signed> {
    let mut worker = Worker::start((here.reopen)()).await?;
    let wallet = worker.wallet().clone();
    let to = allowed(&wallet, here)?;
    let mine = Terms {
        wallet: wallet.id.to_string(),
        address: wallet.address,
        ceremony: wallet.ceremony,
        epoch: wallet.epoch,
        to,
        chain: here.asset.id.chain.id(),
        token: here.asset.id.token,
        value: here.value.to_be_bytes(),
        valid_before: here.now.saturating_add(VALID),
    };
    tell(&format!("waiting for the other party; this one is the {}; the funds go to {to}", seat.me));
    let (circle, theirs) = Circle::gather(seat, mine.clone()).await?;
    let signed = circle.or_stop(run(&circle, &mut worker, &wallet, mine, theirs, here)).await;
    worker.end().await;
    if signed.is_ok() {
        circle.leave().await;
    }
    signed
}

/// The recovery address, if this wallet may sign for this chain.
fn allowed(wallet: &Wallet, here: &Here) -> Step<Address> {
    if wallet.origin != Origin::Distributed && !here.asset.id.chain.is_testnet() {
        return Err(CeremonyError::here(format!(
            "this wallet is marked {}: it signs for test networks only, and {} is none",
            wallet.origin.as_str(),
            here.asset.id.chain
        )));
    }
    wallet
        .recovery
        .ok_or_else(|| CeremonyError::here("no recovery address was fixed when this wallet was created: there is nothing to recover to"))
}

async fn run(
    circle: &Circle,
    worker: &mut Worker,
    wallet: &Wallet,
    mine: Terms,
    theirs: BTreeMap<Party, Terms>,
    here: &Here,
) -> Step<Signed> {
    let [(peer, theirs)]: [(Party, Terms); 1] =
        theirs.into_iter().collect::<Vec<_>>().try_into().map_err(|_| CeremonyError::here("a recovery is made by two parties"))?;
    let first = circle.me() < peer;
    let valid_before = if first { mine.valid_before } else { theirs.valid_before };
    if !ACCEPTED.contains(&valid_before.saturating_sub(here.now)) {
        return Err(CeremonyError::wrong(peer, "has a clock that differs by more than 15 minutes: set both clocks"));
    }
    if let Some(what) = difference(&mine, &theirs) {
        return Err(CeremonyError::wrong(peer, format!("has {what}")));
    }
    let authorization = Authorization {
        asset: here.asset.clone(),
        from: Payer(wallet.address),
        to: Payee(mine.to),
        value: here.value,
        valid_after: 0,
        valid_before,
        nonce: Nonce::of_recovery(wallet.address, circle.instance()),
    };
    let digest = authorization.digest();
    let signature: Vec<u8> = if first {
        let signature = trial::begin(circle, worker, peer, round::TRIAL, digest).await?;
        circle.say(round::SIGNATURE, &signature).await?;
        signature
    } else {
        trial::join(circle, worker, peer, round::TRIAL, digest).await?;
        circle.hear(round::SIGNATURE, peer).await?
    };
    let rsv = signature.try_into().map_err(|_| CeremonyError::wrong(peer, "signed something that is no signature"))?;
    Signed::new(authorization, rsv).map_err(|e| CeremonyError::wrong(peer, format!("made a signature that does not fit: {e}")))
}

/// The first difference, in words.
fn difference(mine: &Terms, theirs: &Terms) -> Option<String> {
    let pairs = [
        ("another wallet", (&mine.wallet, mine.address, mine.ceremony) == (&theirs.wallet, theirs.address, theirs.ceremony)),
        ("another epoch of the share: finish the interrupted refresh first", mine.epoch == theirs.epoch),
        ("another recovery address", mine.to == theirs.to),
        ("another asset in mind", (mine.chain, mine.token) == (theirs.chain, theirs.token)),
        ("another amount in mind", mine.value == theirs.value),
    ];
    pairs.into_iter().find(|(_, same)| !same).map(|(what, _)| what.to_owned())
}
