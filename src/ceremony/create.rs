//! The creation of a wallet (S6).

use std::collections::BTreeMap;
use std::process::Command;

use alloy_primitives::Address;

use super::place::{Place, Tested};
use super::post::round;
use super::worker::Worker;
use super::{CeremonyError, Circle, Seat, Step, Tell, rounds, trial};
use crate::custody::{Custody, Unseal};
use crate::failpoint;
use crate::mpc::{self, Party, Plan, Wallet};

/// What this machine brings.
pub struct Here {
    /// Where the share goes.
    pub place: Place,
    /// What seals it.
    pub unseal: Unseal,
    /// Runs [`super::worker::serve`] on a folder in a new process.
    pub reopen: Box<dyn Fn(&std::path::Path) -> Command + Send + Sync>,
}

/// Runs the whole ceremony; answers the wallet's public facts when it exists.
///
/// # Errors
/// [`CeremonyError`]. Unless the error says otherwise there is no wallet anywhere.
pub async fn create(seat: Seat, plan: Plan, here: &Here, tell: Tell<'_>) -> Step<Wallet> {
    here.place.discard()?;
    tell(&format!("waiting for the others; this machine is the {} party, fingerprint {}", seat.me, seat.identity.public().fingerprint()));
    let (circle, plans) = Circle::gather(seat, plan.clone()).await?;
    let result = circle.or_stop(run(&circle, plan, plans, here, tell)).await;
    if result.is_err() && here.place.tested_pending().is_none() {
        // Nobody has a wallet; what is left is of no use.
        here.place.discard()?;
    }
    if result.is_ok() {
        circle.leave().await;
    }
    result
}

async fn run(circle: &Circle, plan: Plan, plans: BTreeMap<Party, Plan>, here: &Here, tell: Tell<'_>) -> Step<Wallet> {
    for (party, theirs) in &plans {
        if let Some(difference) = plan.difference(theirs) {
            return Err(CeremonyError::wrong(*party, format!("has another plan: {difference}")));
        }
    }
    tell("all three parties have the fingerprints that were compared; generating the key");
    let (me, nonce) = (circle.me(), rand::random());
    let share = rounds::run(circle, move || mpc::create(me, plan, nonce)).await?;
    failpoint!("dkg_agreed");
    let address = share.wallet().address;
    let (folder, unseal) = (here.place.prepare()?, here.unseal.clone());
    tell("sealing the share, opening it again in a new process");
    let sealed = {
        let folder = folder.clone();
        // Argon2id takes a while; the share ends with this closure.
        tokio::task::spawn_blocking(move || Custody::create(&folder, &share, &unseal)).await
    };
    sealed.map_err(|_| CeremonyError::here("sealing the share panicked"))??;
    failpoint!("dkg_sealed");
    let mut worker = Worker::start((here.reopen)(&folder)).await?;
    if worker.wallet().address != address {
        return Err(CeremonyError::here("the reopened share has another account"));
    }
    failpoint!("dkg_reopened");
    one_account(circle, worker.wallet()).await?;
    tell("every pair signs a test");
    trial::all_pairs(circle, &mut worker).await?;
    let wallet = worker.wallet().clone();
    worker.end().await;
    failpoint!("dkg_tested");
    here.place.mark_pending(Tested { epoch: wallet.epoch, run: *circle.instance() })?;
    failpoint!("dkg_marked");
    let all_ready = async {
        circle.say(round::READY, &wallet.address).await?;
        heard_all(circle, round::READY, &wallet).await
    };
    all_ready.await.map_err(|e| unsure(&e, &here.place))?;
    here.place.finish()?;
    failpoint!("dkg_activated");
    let all_active = async {
        circle.say(round::ACTIVE, &wallet.address).await?;
        heard_all(circle, round::ACTIVE, &wallet).await
    };
    if let Err(error) = all_active.await {
        tell(&format!(
            "this party's share is in force, but not every other one is known to be ({error}); where `tollpass wallet show` says \
             `tested`, run `tollpass wallet create --finish`"
        ));
    }
    Ok(wallet)
}

/// The account as the reopened shares have it, on all boards and screens.
async fn one_account(circle: &Circle, wallet: &Wallet) -> Step<()> {
    circle.say(round::SEALED, &wallet.address).await?;
    heard_all(circle, round::SEALED, wallet).await
}

pub(super) async fn heard_all(circle: &Circle, round: u8, wallet: &Wallet) -> Step<()> {
    for party in circle.others() {
        let address: Address = circle.hear(round, party).await?;
        if address != wallet.address {
            return Err(CeremonyError::wrong(party, format!("shows the account {address}, not {}", wallet.address)));
        }
    }
    Ok(())
}

/// After the line: only the other screens know.
fn unsure(error: &CeremonyError, place: &Place) -> CeremonyError {
    CeremonyError::here(format!(
        "{error}. This party's share was tried by every pair and is kept in {}. If another screen says that the wallet was created, \
         run `tollpass wallet create --finish --share {}` here; if none does, `--discard` instead of `--finish`",
        place.pending().display(),
        place.folder().display()
    ))
}
