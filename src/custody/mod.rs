//! Keeping a share: the sealed file, the lock, the bans, the turn token (S3, S8).
//!
//! One folder per share, one process at a time:
//!
//! | file | what |
//! |---|---|
//! | `share` | the sealed share, mode 0400 |
//! | `share.next` | a share of the next epoch, not in force yet |
//! | `share.previous` | the share of the epoch before, to be destroyed |
//! | `share.lock` | held by the process that uses the share |
//! | `custody` | bans, turn token, unclean stops: small, checksummed, replaced atomically, synced |
//!
//! # What a crash tells a cheater
//!
//! A cheating peer guesses bits of the share, and each check tells it whether the guess was right (S3): k bits without a
//! failed check have a probability of 2⁻ᵏ. The ban is durable before anything is answered; but who can make the process die
//! between the check and the write has had its answer and is not banned. Therefore every stop with open sessions counts,
//! durably, and [`MAX_UNCLEAN`] of them freeze the wallet: a few bits for each of the threads that were checking, of 256.
//!
//! # What is found out about a copied folder
//!
//! On one machine the lock refuses a second process on the *same* folder. A copy, or a restored backup, is found out at the
//! co-signer: every greeting spends the turn token of the one before ([`Custody::turn`]), so of two folders with one
//! history the second to speak shows a spent token. A copy that never speaks, and a copy that speaks first, are not seen
//! until the other one speaks; and a copied *state* alone that is put back (a ban rolled back while the share and the turn
//! go back with it) is seen the same way, not before. An older epoch of the share under a newer state is refused here.

#[cfg(test)]
mod attack_test;
#[cfg(all(test, feature = "failpoints"))]
mod crash_test;
mod error;
mod file;
mod live;
#[cfg(test)]
mod model_test;
mod refresh;
mod seal;
mod state;
#[cfg(test)]
mod tests;
mod unseal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{CustodyError, Frozen};
pub use seal::{SealError, Sealed};
pub use unseal::Unseal;

use crate::mpc::{Party, Share, Wallet};
use crate::payment::Timestamp;

/// Unclean stops with open sessions after which a wallet freezes until its next complete refresh (S3).
pub const MAX_UNCLEAN: u32 = 16;

const SHARE: &str = "share";
const NEXT: &str = "share.next";
const PREVIOUS: &str = "share.previous";

/// A share in use. Dropping it is a clean stop, if no session is open.
pub struct Custody {
    folder: PathBuf,
    share: Arc<Share>,
    state: live::StateFile,
    _lock: File,
}

/// An open session; dropping it is [`Custody::session_closed`], so that no early return forgets it.
pub struct OpenSession(Arc<Custody>);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.session_closed();
    }
}

impl Custody {
    /// Locks the folder, opens the share, refuses a frozen one. Blocking: Argon2id takes a while.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn open(folder: &Path, unseal: &Unseal) -> Result<Self, CustodyError> {
        let custody = Self::open_for_care(folder, unseal)?;
        match custody.frozen() {
            Some(frozen) => Err(CustodyError::Frozen(frozen)),
            None => Ok(custody),
        }
    }

    /// As [`Self::open`], but opens a frozen share too, for a complete refresh or a recovery. It signs no payment:
    /// [`Self::session_opened`] refuses and [`Self::frozen`] stays.
    ///
    /// # Errors
    /// [`CustodyError`], never [`CustodyError::Frozen`].
    pub fn open_for_care(folder: &Path, unseal: &Unseal) -> Result<Self, CustodyError> {
        file::refuse_memory(folder)?;
        unseal.is_apart_from(folder)?;
        let lock = file::lock(folder)?;
        let share = unsealed(folder, SHARE, unseal)?;
        let wallet = share.wallet();
        let found = state::State::read(folder, wallet)?;
        let state = state::State::at_start(found, wallet).map_err(|seen| CustodyError::Epoch {
            path: folder.join(SHARE),
            share: wallet.epoch,
            seen,
        })?;
        // An unclean stop is counted durably before anything can happen that would make another one.
        state.write(folder, false)?;
        let state = live::StateFile::start(folder, state).map_err(|error| file::io_error(folder, error))?;
        Ok(Self { folder: folder.to_owned(), share: Arc::new(share), state, _lock: lock })
    }

    /// Writes a new share into an empty folder: sealed, synced, mode 0400.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn create(folder: &Path, share: &Share, unseal: &Unseal) -> Result<(), CustodyError> {
        file::refuse_memory(folder)?;
        unseal.is_apart_from(folder)?;
        let _lock = file::lock(folder)?;
        if folder.join(SHARE).exists() {
            return Err(CustodyError::Step { path: folder.join(SHARE), why: "there is a share already" });
        }
        // The record of bans first: a share without one counts as one whose record was lost.
        state::State::new(share.wallet()).write(folder, false)?;
        sealed(folder, SHARE, share, unseal, || (), || ())
    }

    /// The public facts of a sealed share, and its freeze, without opening it and without its lock. Nothing of it is
    /// authenticated: for people to look at.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn inspect(folder: &Path) -> Result<(Wallet, Option<Frozen>), CustodyError> {
        let wallet = facts(folder, SHARE)?;
        let found = state::State::read(folder, &wallet)?;
        let frozen = state::State::shown(found, &wallet).map_err(|seen| CustodyError::Epoch {
            path: folder.join(SHARE),
            share: wallet.epoch,
            seen,
        })?;
        Ok((wallet, frozen))
    }

    /// The share.
    pub const fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// The freeze that is in force, if any: looked at before every protocol step, a load from memory.
    pub fn frozen(&self) -> Option<Frozen> {
        self.state.frozen()
    }

    /// Bans `peer` (S3): stops everything in memory first, then returns when it is durable. Idempotent. Blocking.
    ///
    /// # Errors
    /// [`CustodyError::Io`]; the freeze in memory stands all the same, and the write is tried again every second.
    pub fn ban(&self, peer: Party, at: Timestamp) -> Result<(), CustodyError> {
        self.state.ban(peer, at)
    }

    /// A session opens: the first one after a quiet time makes the mark durable that a stop from here on is unclean, which
    /// blocks for one sync; the others only count.
    ///
    /// # Errors
    /// [`CustodyError::Frozen`], or [`CustodyError::Io`]: then no session may be opened.
    pub fn session_opened(&self) -> Result<(), CustodyError> {
        self.state.session_opened()
    }

    /// A session ended; after a ban, only when the ban is durable. The mark is taken off, durably, after a quiet second or at
    /// a clean stop.
    pub fn session_closed(&self) {
        self.state.session_closed();
    }

    /// [`Self::session_opened`] with a guard for [`Self::session_closed`].
    ///
    /// # Errors
    /// As there.
    pub fn session(self: &Arc<Self>) -> Result<OpenSession, CustodyError> {
        self.session_opened()?;
        Ok(OpenSession(self.clone()))
    }

    /// The turn tokens for [`crate::wire::message::Hello`]: the one that the co-signer knows, and the next, which is durable
    /// already. Each greeting exchanges one. Asked again before [`Self::turned`], it answers the same pair: the co-signer takes
    /// a pair again whose second token it already has.
    ///
    /// # Errors
    /// [`CustodyError::Io`].
    pub fn turn(&self) -> Result<([u8; 16], [u8; 16]), CustodyError> {
        self.state.turn()
    }

    /// The co-signer accepted the exchange. `false`: the pair was left over from a process that stopped between asking and
    /// hearing; a copy of the folder has the same one, so greet once more with [`Self::turn`] before doing anything else.
    ///
    /// # Errors
    /// [`CustodyError::Io`].
    pub fn turned(&self) -> Result<bool, CustodyError> {
        self.state.turned()
    }

    /// The highest ledger head the peer has shown; remembers `head` if it is higher (durable within a second). `Err` with the
    /// higher one if the peer went back (S2).
    ///
    /// # Errors
    /// The head that was seen before.
    pub fn peer_head(&self, head: u64) -> Result<(), u64> {
        self.state.peer_head(head)
    }
}

/// Seals `share` as `folder/name`, durably, mode 0400.
fn sealed(
    folder: &Path,
    name: &str,
    share: &Share,
    unseal: &Unseal,
    after_write: impl FnOnce(),
    after_rename: impl FnOnce(),
) -> Result<(), CustodyError> {
    let path = folder.join(name);
    let step = |error| CustodyError::Seal { path: path.clone(), error };
    let passphrase = unseal.passphrase()?;
    let secret = share.secret_bytes().map_err(|_| step(SealError::Format))?;
    let bytes = seal::seal(share.wallet(), &secret, &passphrase).map_err(step)?;
    file::replace(folder, name, 0o400, &bytes, after_write, after_rename).map_err(|error| file::io_error(&path, error))
}

/// Opens `folder/name`.
fn unsealed(folder: &Path, name: &str, unseal: &Unseal) -> Result<Share, CustodyError> {
    let path = folder.join(name);
    let step = |error| CustodyError::Seal { path: path.clone(), error };
    let bytes = read(&path)?;
    let passphrase = unseal.passphrase()?;
    let (wallet, secret) = seal::open(&bytes, &passphrase).map_err(step)?;
    Share::from_secret(wallet, &secret).map_err(|_| step(SealError::Format))
}

/// The facts in the header of `folder/name`.
fn facts(folder: &Path, name: &str) -> Result<Wallet, CustodyError> {
    let path = folder.join(name);
    let bytes = read(&path)?;
    seal::inspect(&bytes).map(|sealed| sealed.wallet).map_err(|error| CustodyError::Seal { path, error })
}

fn read(path: &Path) -> Result<Vec<u8>, CustodyError> {
    let error = |error| CustodyError::Seal { path: path.to_owned(), error };
    match file::read_private(path, seal::MAX_FILE) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(error(SealError::WorldReadable)),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(error(SealError::Format)),
        Err(e) => Err(error(SealError::Io(e))),
    }
}
