//! Why a share is not available, and what the operator does about it.

use std::path::PathBuf;

use super::{MAX_UNCLEAN, SealError};
use crate::mpc::Party;
use crate::payment::Timestamp;

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
    /// A restart of the machine would empty the folder, and with it a ban (S3).
    #[error("{0} is on a memory file system: a ban would not survive a restart; use a disk")]
    Ephemeral(PathBuf),
    /// The share is older than the state beside it: a restored backup, or half of one.
    #[error("{path} is of epoch {share}, but epoch {seen} was in use here: an old share must not come back")]
    Epoch {
        /// The file.
        path: PathBuf,
        /// The share's epoch.
        share: u32,
        /// The epoch that this folder has seen.
        seen: u32,
    },
    /// A file is in the way, or not the one that the step needs.
    #[error("{path}: {why}")]
    Step {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
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
    /// The file of bans is gone or damaged: what it held is unknown.
    Lost,
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
            Self::Lost => write!(
                f,
                "frozen: the record of bans beside the share is missing or damaged; run `tollpass wallet refresh` with all three parties"
            ),
        }
    }
}
