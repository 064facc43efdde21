//! The complete refresh of a wallet: a new epoch beside the old one, tried, put in force, then the old one destroyed (S7).
//!
//! ```text
//! staged   share.next is sealed and opened by a new process; every pair signs with it
//! tested   this party's mark is durable, then it says READY
//! active   heard READY from both others: share.next is renamed over share, then it says ACTIVE
//! gone     heard ACTIVE from both others: share.previous is overwritten and removed
//! ```
//!
//! So: who is active knows that all three have a durable, tried share of the new epoch; who has destroyed the old share
//! knows that nobody signs with it any more. At every instant some epoch has a share on each of the three disks, and a run that
//! was interrupted is finished by the next one: [`settle`] compares what the three have, before anything new is made.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::create::heard_all;
use super::place::{Place, Tested};
use super::post::round;
use super::worker::Worker;
use super::{CeremonyError, Circle, Seat, Step, Tell, rounds, trial};
use crate::custody::{Custody, Unseal};
use crate::failpoint;
use crate::mpc::{self, Existing, Party, Plan, Wallet};

/// What this machine brings.
pub struct Here {
    /// Where the share is.
    pub place: Place,
    /// What opens it.
    pub unseal: Unseal,
    /// Runs [`super::worker::serve`] on the staged share in a new process.
    pub reopen: Box<dyn Fn() -> Command + Send + Sync>,
}

/// What a party says before a refresh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The wallet, without its epoch.
    plan: Plan,
    /// The epoch in force.
    epoch: u32,
    /// The run that made the epoch in force, or a tested one beside it.
    tested: Option<Tested>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The wallet as it is in force now.
    pub wallet: Wallet,
    /// This run finished an earlier one instead of making a new epoch.
    pub finished_earlier: bool,
    /// Both others said that their old share is destroyed.
    pub all_destroyed: bool,
}

/// What the three have to do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// All are at the same epoch: make the next one.
    Fresh,
    /// All are at the same epoch already, or will be when those with a tested share put it in force.
    Finish {
        /// Whether this party is one of those.
        activate: bool,
    },
}

/// Decides, from what all three have, whether an interrupted run is to be finished. Every party comes to the same answer.
///
/// # Errors
/// The party that can neither join the newest epoch nor be joined.
pub fn settle(me: Party, all: &BTreeMap<Party, (u32, Option<Tested>)>) -> Result<Settle, Party> {
    let newest = all.values().map(|(epoch, _)| *epoch).max().unwrap_or(0);
    let run = |epoch| all.values().filter(move |(e, _)| *e == epoch).find_map(|(_, tested)| *tested);
    if all.values().all(|(epoch, _)| *epoch == newest) {
        // Nobody has put the next one in force. If all three have tried the same one they may; else it is thrown away.
        let next = newest.checked_add(1);
        let first = all.values().next().and_then(|(_, tested)| *tested);
        let same = first.is_some_and(|t| Some(t.epoch) == next) && all.values().all(|(_, tested)| *tested == first);
        return Ok(if same { Settle::Finish { activate: true } } else { Settle::Fresh });
    }
    let target = run(newest).filter(|t| t.epoch == newest);
    for (party, (epoch, tested)) in all {
        let joins = epoch.checked_add(1) == Some(newest) && tested.is_some() && *tested == target;
        if *epoch != newest && !joins {
            return Err(*party);
        }
    }
    Ok(Settle::Finish { activate: all.get(&me).is_some_and(|(epoch, _)| *epoch != newest) })
}

/// Runs the whole ceremony.
///
/// # Errors
/// [`CeremonyError`]. The wallet signs as before, with the old epoch or with the new one.
pub async fn refresh(seat: Seat, here: &Here, tell: Tell<'_>) -> Step<Refreshed> {
    let custody = opened(here).await?;
    let wallet = custody.share().wallet().clone();
    let terms = Terms { plan: without_epoch(&wallet), epoch: wallet.epoch, tested: here.place.tested() };
    tell(&format!("waiting for the others; this machine is the {} party, epoch {}", seat.me, wallet.epoch));
    let (circle, theirs) = Circle::gather(seat, terms.clone()).await?;
    let result = circle.or_stop(run(&circle, custody, terms, theirs, here, tell)).await;
    if result.is_ok() {
        circle.leave().await;
    }
    result
}

async fn run(
    circle: &Circle,
    custody: Custody,
    mine: Terms,
    theirs: BTreeMap<Party, Terms>,
    here: &Here,
    tell: Tell<'_>,
) -> Step<Refreshed> {
    let mut all = BTreeMap::from([(circle.me(), (mine.epoch, mine.tested))]);
    for (party, terms) in &theirs {
        if let Some(difference) = mine.plan.difference(&terms.plan) {
            return Err(CeremonyError::wrong(*party, format!("has another wallet: {difference}")));
        }
        all.insert(*party, (terms.epoch, terms.tested));
    }
    let settled = settle(circle.me(), &all).map_err(|party| {
        CeremonyError::wrong(party, "has an epoch from which there is no way to the others': restore its share, or recover")
    })?;
    let (custody, earlier) = match settled {
        Settle::Finish { activate } => {
            tell("an earlier refresh was interrupted: finishing it");
            (if activate { activated(custody, here).await? } else { custody }, true)
        }
        Settle::Fresh => (renewed(circle, custody, here, tell).await?, false),
    };
    failpoint!("refresh_activated");
    let wallet = custody.share().wallet().clone();
    circle.say(round::ACTIVE, &wallet.address).await?;
    heard_all(circle, round::ACTIVE, &wallet).await?;
    tell("all three sign with the new epoch: destroying the old share");
    let custody = tokio::task::spawn_blocking(move || custody.destroy_previous().map(|()| custody)).await;
    custody.map_err(|_| CeremonyError::here("destroying the old share panicked"))??;
    failpoint!("refresh_destroyed");
    let all_destroyed = async {
        circle.say(round::GONE, &wallet.address).await?;
        heard_all(circle, round::GONE, &wallet).await
    };
    let all_destroyed = all_destroyed.await.is_ok();
    Ok(Refreshed { wallet, finished_earlier: earlier, all_destroyed })
}

/// A new epoch, up to its being in force here.
async fn renewed(circle: &Circle, custody: Custody, here: &Here, tell: Tell<'_>) -> Step<Custody> {
    tell("all three are at the same epoch; making the next one");
    let (share, nonce) = (custody.share().clone(), rand::random());
    let next = rounds::run(circle, move || mpc::refresh(share, nonce)).await?;
    here.place.unmark_staged()?;
    let unseal = here.unseal.clone();
    let staged = tokio::task::spawn_blocking(move || custody.stage_next(&next, &unseal).map(|()| custody)).await;
    let custody = staged.map_err(|_| CeremonyError::here("sealing the share panicked"))??;
    failpoint!("refresh_staged");
    let mut worker = Worker::start((here.reopen)()).await?;
    let expected = custody.share().wallet().epoch.checked_add(1);
    if Some(worker.wallet().epoch) != expected || worker.wallet().address != custody.share().wallet().address {
        return Err(CeremonyError::here("the reopened share is not the staged one"));
    }
    circle.say(round::SEALED, &worker.wallet().address).await?;
    heard_all(circle, round::SEALED, worker.wallet()).await?;
    tell("every pair signs a test with the new shares");
    trial::all_pairs(circle, &mut worker).await?;
    let wallet = worker.wallet().clone();
    worker.end().await;
    here.place.mark_staged(Tested { epoch: wallet.epoch, run: *circle.instance() })?;
    failpoint!("refresh_tested");
    let all_ready = async {
        circle.say(round::READY, &wallet.address).await?;
        heard_all(circle, round::READY, &wallet).await
    };
    all_ready.await.map_err(|e| unsure(&e, &wallet))?;
    activated(custody, here).await
}

/// After the line: another party may sign with the new epoch already.
fn unsure(error: &CeremonyError, wallet: &Wallet) -> CeremonyError {
    CeremonyError::here(format!(
        "{error}. Epoch {} was tried by every pair and is kept beside the old one. Run the refresh again with all three; if one \
         cannot come and another screen shows epoch {} in force, run `tollpass wallet refresh --finish` here",
        wallet.epoch, wallet.epoch
    ))
}

/// Puts the staged share in force and opens the folder again.
async fn activated(custody: Custody, here: &Here) -> Step<Custody> {
    let done = tokio::task::spawn_blocking(move || custody.activate_next()).await;
    done.map_err(|_| CeremonyError::here("putting the share in force panicked"))??;
    opened(here).await
}

async fn opened(here: &Here) -> Step<Custody> {
    let (folder, unseal) = (here.place.folder().to_owned(), here.unseal.clone());
    let opened = tokio::task::spawn_blocking(move || Custody::open_for_care(&folder, &unseal)).await;
    Ok(opened.map_err(|_| CeremonyError::here("opening the share panicked"))??)
}

/// Puts a tested share in force without the others, because one of them is known to have done so.
///
/// # Errors
/// [`CeremonyError`] if there is none.
pub fn finish_alone(place: &Place, unseal: &Unseal) -> Step<Wallet> {
    let custody = Custody::open_for_care(place.folder(), unseal)?;
    let next = custody.share().wallet().epoch.checked_add(1);
    if place.tested().map(|t| t.epoch) != next {
        return Err(CeremonyError::here("there is no tested share of the next epoch here: nothing to finish"));
    }
    custody.activate_next()?;
    Ok(Custody::inspect(place.folder())?.0)
}

fn without_epoch(wallet: &Wallet) -> Plan {
    let plan = Plan::refresh(wallet);
    Plan { existing: plan.existing.map(|e| Existing { epoch: 0, ..e }), ..plan }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(states: [(u32, Option<(u32, u8)>); 3]) -> BTreeMap<Party, (u32, Option<Tested>)> {
        let tested = |t: Option<(u32, u8)>| t.map(|(epoch, run)| Tested { epoch, run: [run; 32] });
        Party::ALL.into_iter().zip(states.map(|(epoch, t)| (epoch, tested(t)))).collect()
    }

    #[test]
    fn an_interrupted_refresh_is_finished_only_where_every_party_can() {
        let cases = [
            // Never refreshed, or refreshed to the end.
            ([(1, None), (1, None), (1, None)], [Ok(Settle::Fresh); 3]),
            ([(2, Some((2, 7))), (2, Some((2, 7))), (2, Some((2, 7)))], [Ok(Settle::Fresh); 3]),
            // Some tested, none active: thrown away. All tested: finished.
            ([(1, Some((2, 7))), (1, Some((2, 7))), (1, None)], [Ok(Settle::Fresh); 3]),
            ([(1, Some((2, 7))), (1, Some((2, 7))), (1, Some((2, 7)))], [Ok(Settle::Finish { activate: true }); 3]),
            ([(1, Some((2, 7))), (1, Some((2, 8))), (1, Some((2, 7)))], [Ok(Settle::Fresh); 3]),
            // One is ahead: the others follow.
            (
                [(2, Some((2, 7))), (1, Some((2, 7))), (1, Some((2, 7)))],
                [Ok(Settle::Finish { activate: false }), Ok(Settle::Finish { activate: true }), Ok(Settle::Finish { activate: true })],
            ),
            // One is ahead and another cannot follow: a restored backup.
            ([(2, Some((2, 7))), (1, None), (1, Some((2, 7)))], [Err(Party::Cosigner); 3]),
            ([(2, Some((2, 7))), (1, Some((2, 8))), (1, Some((2, 7)))], [Err(Party::Cosigner); 3]),
            ([(3, Some((3, 7))), (3, Some((3, 7))), (1, Some((2, 7)))], [Err(Party::Cold); 3]),
        ];
        for (states, want) in cases {
            let got = Party::ALL.map(|me| settle(me, &all(states)));
            assert_eq!(got, want, "{states:?}");
        }
    }
}
