//! Keeping a share: the sealed file, the lock, the bans, the turn token (S3, S8).
//!
//! One folder per share: `share` (sealed), `share.lock`, `custody` (small, checksummed, replaced atomically, synced: bans,
//! turn token, unclean stops). One process at a time. A copy of the folder is found out when either of the two speaks to the
//! co-signer, because each start spends the token of the run before ([`crate::wire::message::Hello`]).

mod mark;
mod seal;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use mark::Mark;
pub use seal::{SealError, Sealed};

use crate::mpc::{Party, Share, Wallet};
use crate::payment::Timestamp;

/// Unclean stops with open sessions after which a wallet freezes until its next complete refresh (S3).
pub const MAX_UNCLEAN: u32 = 16;

/// Where the passphrase that opens a share comes from. Never the folder the share is in (S8).
#[derive(Clone, Debug)]
pub enum Unseal {
    /// An environment variable's value, read at start-up.
    Value(crate::config::Secret),
    /// A file of mode 0400 or 0440.
    File(PathBuf),
    /// A program that prints it: a KMS client, a secret store.
    Exec(Vec<String>),
}

/// Why a share is not available.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// Another process holds it.
    #[error("another process uses {0}: one share, one process")]
    Locked(PathBuf),
    /// The file cannot be read, opened or trusted.
    #[error("{path}: {error}")]
    Seal {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: SealError,
    },
    /// Frozen: a ban or too many unclean stops.
    #[error("{0}")]
    Frozen(Frozen),
    /// The folder cannot be used.
    #[error("cannot use {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The passphrase source did not deliver.
    #[error("unseal: {0}")]
    Unseal(String),
}

/// Why a wallet does not sign any more, and what the operator does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The peer failed a check on reusable material (S3).
    Banned {
        /// Who.
        peer: Party,
        /// When.
        at: Timestamp,
    },
    /// [`MAX_UNCLEAN`] stops with open sessions.
    Unclean,
}

impl std::fmt::Display for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Banned { peer, .. } => write!(
                f,
                "frozen: the {peer} failed a check on reusable material; run `tollpass wallet refresh` with all three parties, or `tollpass wallet recover` to move the funds"
            ),
            Self::Unclean => write!(
                f,
                "frozen: {MAX_UNCLEAN} stops with open signing sessions since the last refresh; run `tollpass wallet refresh` with all three parties"
            ),
        }
    }
}

/// A share in use.
pub struct Custody {
    share: Arc<Share>,
    state: state::StateFile,
}

impl Custody {
    /// Locks the folder, opens the share, refuses a frozen one. Blocking: Argon2id takes a while.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn open(folder: &Path, unseal: &Unseal) -> Result<Self, CustodyError> {
        let _ = (folder, unseal);
        todo!()
    }

    /// Writes a new share into an empty folder: sealed, synced, mode 0400.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn create(folder: &Path, share: &Share, unseal: &Unseal) -> Result<(), CustodyError> {
        let _ = (folder, share, unseal);
        todo!()
    }

    /// The public facts of a sealed share, without opening it.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn inspect(folder: &Path) -> Result<(Wallet, Option<Frozen>), CustodyError> {
        let _ = folder;
        todo!()
    }

    /// The share.
    pub const fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// The freeze that is in force, if any: looked at before every protocol step, a load from memory.
    pub fn frozen(&self) -> Option<Frozen> {
        self.state.frozen()
    }

    /// Bans `peer` (S3): stops everything in memory first, then returns when it is durable. Idempotent.
    ///
    /// # Errors
    /// [`CustodyError::Io`]; the freeze in memory stands all the same.
    pub fn ban(&self, peer: Party, at: Timestamp) -> Result<(), CustodyError> {
        self.state.ban(peer, at)
    }

    /// A session opens: the first one after a quiet time makes the mark durable that a stop from here on is unclean.
    ///
    /// # Errors
    /// [`CustodyError::Io`]: then no session may be opened.
    pub fn session_opened(&self) -> Result<(), CustodyError> {
        self.state.session_opened()
    }

    /// A session ended. The mark is taken off, durably, after a quiet second or at a clean stop.
    pub fn session_closed(&self) {
        self.state.session_closed();
    }

    /// The turn tokens for [`crate::wire::message::Hello`]: the run before's, and this run's, which is durable already.
    ///
    /// # Errors
    /// [`CustodyError::Io`].
    pub fn turn(&self) -> Result<([u8; 16], [u8; 16]), CustodyError> {
        self.state.turn()
    }

    /// The co-signer accepted the exchange.
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

impl Unseal {
    /// Fetches the passphrase.
    ///
    /// # Errors
    /// [`CustodyError::Unseal`], without the secret or the program's output.
    pub fn passphrase(&self) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        todo!()
    }
}
