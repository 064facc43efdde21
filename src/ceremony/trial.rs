//! Every pair signs a test text with the new shares (S6, S7).

use alloy_primitives::{B256, Signature, U256, eip191_hash_message, hex};

use super::post::round;
use super::worker::{Did, Job, Worker};
use super::{CeremonyError, Circle, Step};
use crate::mpc::{Party, Wallet};

/// Who signs with whom; the first one begins.
const PAIRS: [(Party, Party); 3] = [(Party::Sidecar, Party::Cosigner), (Party::Sidecar, Party::Cold), (Party::Cosigner, Party::Cold)];

/// What a pair signs: an EIP-191 text, so its hash begins with `0x19 'E'` and can be no EIP-712 digest and no transaction.
pub(super) fn digest(instance: &[u8; 32], wallet: &Wallet, pair: (Party, Party)) -> B256 {
    let text = format!("tollpass wallet test/1 {} {} epoch {} {} {}", wallet.id, hex::encode(instance), wallet.epoch, pair.0, pair.1);
    eip191_hash_message(text)
}

/// Runs all three pairs; every party checks every signature by itself.
pub(super) async fn all_pairs(circle: &Circle, worker: &mut Worker) -> Step<()> {
    for (pair, base) in PAIRS.into_iter().zip((round::TRIAL..).step_by(4)) {
        let digest = digest(circle.instance(), worker.wallet(), pair);
        let at = round::SIGNATURE + (base - round::TRIAL) / 4;
        if circle.me() == pair.0 {
            let signature = begin(circle, worker, pair.1, base, digest).await?;
            circle.say(at, &signature).await?;
        } else {
            if circle.me() == pair.1 {
                join(circle, worker, pair.0, base, digest).await?;
            }
            let signature: Vec<u8> = circle.hear(at, pair.0).await?;
            check(&signature, digest, worker.wallet())
                .ok_or_else(|| CeremonyError::wrong(pair.0, format!("and the {} signed a test that does not verify", pair.1)))?;
        }
    }
    Ok(())
}

/// Signs `digest` with `peer` as the one that begins; answers `r ‖ s ‖ v`. Four posts from `base` on.
pub(super) async fn begin(circle: &Circle, worker: &mut Worker, peer: Party, base: u8, digest: B256) -> Step<Vec<u8>> {
    let sign_id: [u8; 32] = rand::random();
    let Did::One(round1) = worker.run(Job::Begin { peer, sign_id, digest: digest.0 }).await? else { return Err(mixed()) };
    circle.whisper(base, peer, &pack(&(sign_id, round1))?).await?;
    let theirs = circle.overhear(base + 1, peer).await?;
    let (round1, round2): (Vec<u8>, Vec<u8>) = unpack(peer, &theirs)?;
    let Did::One(round2) = worker.run(Job::Advance { round1, round2 }).await? else { return Err(mixed()) };
    circle.whisper(base + 2, peer, &round2).await?;
    let partial = circle.overhear(base + 3, peer).await?.to_vec();
    let Did::Signed(signature) = worker.run(Job::Complete { partial }).await? else { return Err(mixed()) };
    Ok(signature)
}

/// Signs `digest` with `peer`, who begins; the signature is the peer's to tell.
pub(super) async fn join(circle: &Circle, worker: &mut Worker, peer: Party, base: u8, digest: B256) -> Step<()> {
    let theirs = circle.overhear(base, peer).await?;
    let (sign_id, round1): ([u8; 32], Vec<u8>) = unpack(peer, &theirs)?;
    let Did::Two(round1, round2) = worker.run(Job::Join { peer, sign_id, digest: digest.0, round1 }).await? else { return Err(mixed()) };
    circle.whisper(base + 1, peer, &pack(&(round1, round2))?).await?;
    let round2 = circle.overhear(base + 2, peer).await?.to_vec();
    let Did::One(partial) = worker.run(Job::Finish { round2 }).await? else { return Err(mixed()) };
    circle.whisper(base + 3, peer, &partial).await
}

/// A low s, and the wallet's account.
pub(super) fn check(rsv: &[u8], digest: B256, wallet: &Wallet) -> Option<()> {
    let rsv: &[u8; 65] = rsv.try_into().ok()?;
    let signature = Signature::new(U256::from_be_slice(&rsv[..32]), U256::from_be_slice(&rsv[32..64]), rsv[64] == 28);
    let signer = signature.recover_address_from_prehash(&digest).ok()?;
    (signature.normalize_s().is_none() && signer == wallet.address).then_some(())
}

fn pack<T: serde::Serialize>(what: &T) -> Step<Vec<u8>> {
    postcard::to_allocvec(what).map_err(|_| CeremonyError::here("a message cannot be encoded"))
}

fn unpack<T: serde::de::DeserializeOwned>(from: Party, bytes: &[u8]) -> Step<T> {
    super::post::decode(bytes).ok_or_else(|| CeremonyError::wrong(from, "sent a test message that cannot be read"))
}

fn mixed() -> CeremonyError {
    CeremonyError::here("the process that holds the new share answered out of order")
}
