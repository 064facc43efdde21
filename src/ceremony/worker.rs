//! A new process that opens a share as it lies on the disk and signs tests with it (S6).
//!
//! The parent is the ceremony; it has dropped its own copy of the share. Both ends are here: [`serve`] in the child, over
//! its standard input and output, and [`Worker`] in the parent. Frames are a length and postcard; no secret goes over the
//! pipe but a partial signature of a test text.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use alloy_primitives::B256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CeremonyError, Step};
use crate::custody::{Custody, CustodyError, Frozen, Unseal};
use crate::mpc::{Abort, Begun, Completing, Joined, Partial, Party, Share, Wallet};

const MAX_FRAME: usize = 512 << 10;

/// What the parent wants next.
#[derive(Serialize, Deserialize)]
pub(super) enum Job {
    Begin { peer: Party, sign_id: [u8; 32], digest: [u8; 32] },
    Advance { round1: Vec<u8>, round2: Vec<u8> },
    Complete { partial: Vec<u8> },
    Join { peer: Party, sign_id: [u8; 32], digest: [u8; 32], round1: Vec<u8> },
    Finish { round2: Vec<u8> },
}

/// What the child answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Did {
    /// The share is open; its public facts.
    Opened(Wallet),
    /// One message of the protocol, or the partial.
    One(Vec<u8>),
    /// Two messages.
    Two(Vec<u8>, Vec<u8>),
    /// `r ‖ s ‖ v`.
    Signed(Vec<u8>),
    /// Did not work.
    Failed(String),
}

/// Where the child finds the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The share in force of a folder that nobody else has open.
    Current,
    /// The staged one, while the parent holds the folder.
    Staged,
    /// The share in force, frozen or not, for a recovery.
    Care,
}

enum Phase {
    Idle,
    Begun(Party, Begun),
    Completing(Completing),
    Joined(Party, Joined),
}

/// The child: opens the share, then does one job after another until its input ends.
///
/// # Errors
/// [`CustodyError`] if the share does not open; the parent has been told.
pub fn serve(folder: &Path, unseal: &Unseal, which: Which, mut input: impl Read, mut output: impl Write) -> Result<(), CustodyError> {
    let opened = match which {
        Which::Current => Custody::open(folder, unseal).map(|custody| (custody.share().clone(), Some(custody))),
        Which::Care => Custody::open_for_care(folder, unseal).map(|custody| (custody.share().clone(), Some(custody))),
        Which::Staged => Custody::open_staged(folder, unseal).map(|share| (Arc::new(share), None)),
    };
    let (share, custody) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = write(&mut output, &Did::Failed(error.to_string()));
            return Err(error);
        }
    };
    let mut answer = Did::Opened(share.wallet().clone());
    let mut phase = Phase::Idle;
    while write(&mut output, &answer).is_ok() {
        let Ok(job) = read::<Job>(&mut input) else { break };
        let before = std::mem::replace(&mut phase, Phase::Idle);
        let peer = peer_of(&job, &before);
        let allowed = peer.map_or(Ok(()), |peer| may_sign_with(custody.as_ref(), peer));
        answer = match allowed.and_then(|()| step(&share, before, job)) {
            Ok((did, next)) => {
                phase = next;
                did
            }
            Err(abort) => {
                // Durable before anything is answered (S3). A staged share has no record yet: its ceremony fails and it goes.
                if let (Abort::Ban, Some(custody), Some(peer)) = (&abort, &custody, peer) {
                    custody.ban(peer, crate::clock::read().wall)?;
                }
                Did::Failed(abort.to_string())
            }
        };
    }
    Ok(())
}

const fn peer_of(job: &Job, before: &Phase) -> Option<Party> {
    match (job, before) {
        (Job::Begin { peer, .. } | Job::Join { peer, .. }, _) | (_, Phase::Begun(peer, _) | Phase::Joined(peer, _)) => Some(*peer),
        _ => None,
    }
}

/// A frozen share may still recover the funds, but never with the party that was banned.
fn may_sign_with(custody: Option<&Custody>, peer: Party) -> Result<(), Abort> {
    match custody.and_then(Custody::frozen) {
        Some(Frozen::Banned { peer: banned, .. }) if banned == peer => {
            Err(Abort::Recoverable(format!("the {peer} is banned on this share: recover with the third party, or refresh")))
        }
        _ => Ok(()),
    }
}

fn step(share: &Arc<Share>, phase: Phase, job: Job) -> Result<(Did, Phase), Abort> {
    match (job, phase) {
        (Job::Begin { peer, sign_id, digest }, Phase::Idle) => {
            let (begun, round1) = Begun::new(share.clone(), peer, sign_id, B256::from(digest))?;
            Ok((Did::One(round1), Phase::Begun(peer, begun)))
        }
        (Job::Advance { round1, round2 }, Phase::Begun(_, begun)) => {
            let (completing, round2) = begun.advance(&round1, &round2)?;
            Ok((Did::One(round2), Phase::Completing(completing)))
        }
        (Job::Complete { partial }, Phase::Completing(completing)) => {
            Ok((Did::Signed(completing.complete(&Partial::from_bytes(partial))?.to_vec()), Phase::Idle))
        }
        (Job::Join { peer, sign_id, digest, round1 }, Phase::Idle) => {
            let (joined, round1, round2) = Joined::new(share.clone(), peer, sign_id, B256::from(digest), &round1)?;
            Ok((Did::Two(round1, round2), Phase::Joined(peer, joined)))
        }
        (Job::Finish { round2 }, Phase::Joined(_, joined)) => Ok((Did::One(joined.finish(&round2)?.as_bytes().to_vec()), Phase::Idle)),
        _ => Err(Abort::Recoverable("a step out of order".into())),
    }
}

fn write<T: Serialize>(output: &mut impl Write, what: &T) -> std::io::Result<()> {
    let bytes = postcard::to_allocvec(what).map_err(std::io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    output.write_all(&length.to_be_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

fn read<T: DeserializeOwned>(input: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(std::io::Error::other("a frame that is too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(std::io::Error::other)
}

/// The parent's end.
pub struct Worker {
    pipe: Option<Pipe>,
    wallet: Wallet,
}

struct Pipe {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Worker {
    /// Starts `command`, which runs [`serve`], and waits until the share is open there.
    ///
    /// # Errors
    /// [`CeremonyError::Here`] with what the child said.
    pub async fn start(mut command: Command) -> Step<Self> {
        let started = tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(std::io::Error::other("no pipes"));
            };
            let mut pipe = Pipe { child, input, output };
            let first = read::<Did>(&mut pipe.output);
            Ok((pipe, first))
        });
        let failed = |why: String| CeremonyError::here(format!("a new process cannot open the share: {why}"));
        let (pipe, first) = started.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        match first {
            Ok(Did::Opened(wallet)) => Ok(Self { pipe: Some(pipe), wallet }),
            Ok(Did::Failed(why)) => Err(failed(why)),
            _ => Err(failed("it ended".into())),
        }
    }

    /// The public facts of the share as the child found them.
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Has one job done.
    pub(super) async fn run(&mut self, job: Job) -> Step<Did> {
        let gone = || CeremonyError::here("the process that holds the new share ended");
        let mut pipe = self.pipe.take().ok_or_else(gone)?;
        let done = tokio::task::spawn_blocking(move || {
            let did = write(&mut pipe.input, &job).and_then(|()| read::<Did>(&mut pipe.output));
            (pipe, did)
        });
        let (pipe, did) = done.await.map_err(|_| gone())?;
        self.pipe = Some(pipe);
        match did.map_err(|_| gone())? {
            Did::Failed(why) => Err(CeremonyError::here(format!("a test signature failed: {why}"))),
            did => Ok(did),
        }
    }

    /// Ends the child and waits for it: its lock is free afterwards.
    pub async fn end(mut self) {
        if let Some(pipe) = self.pipe.take() {
            let _ = tokio::task::spawn_blocking(move || pipe.finish()).await;
        }
    }
}

impl Pipe {
    fn finish(mut self) {
        drop(self.input);
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.child.kill();
            let _ = pipe.child.wait();
        }
    }
}
