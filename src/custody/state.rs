//! What must survive a stop, in one small file that is replaced atomically.
//!
//! `"tollpass custody" 01 │ postcard │ SHA-256 of both`. The state belongs to one wallet, party and epoch. A file that is
//! missing or damaged while a share is there is not an empty one: bans may have been in it, so the wallet is frozen
//! ([`Frozen::Lost`]) until its next complete refresh.
//!
//! The checksum finds damage, not forgery: whoever can write here as our user can also take the share's file. What it can
//! not do unseen is go back: see the turn tokens of [`super::Custody::turn`].

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file;
use super::{CustodyError, Frozen, MAX_UNCLEAN};
use crate::failpoint;
use crate::mpc::{Party, Wallet};
use crate::payment::Timestamp;

const MAGIC: &[u8; 17] = b"tollpass custody\x01";
const NAME: &str = "custody";
const MAX_FILE: u64 = 4096;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) ceremony: [u8; 32],
    pub(super) party: Party,
    pub(super) epoch: u32,
    pub(super) bans: Vec<(Party, Timestamp)>,
    pub(super) unclean: u32,
    /// Sessions are, or were at the stop, open.
    pub(super) marked: bool,
    /// An earlier state was lost; what it held is unknown.
    pub(super) lost: bool,
    /// The turn token that the co-signer knows.
    pub(super) turn: [u8; 16],
    /// The one it was, or is about to be, offered.
    pub(super) next: Option<[u8; 16]>,
    pub(super) peer_head: u64,
}

/// What the disk says.
pub(super) enum Found {
    State(State),
    /// No file.
    Missing,
    /// Not a state, or not this wallet's.
    Damaged,
}

impl State {
    pub(super) const fn new(wallet: &Wallet) -> Self {
        Self {
            ceremony: wallet.ceremony,
            party: wallet.party,
            epoch: wallet.epoch,
            bans: Vec::new(),
            unclean: 0,
            marked: false,
            lost: false,
            turn: [0; 16],
            next: None,
            peer_head: 0,
        }
    }

    /// Reads the state of `wallet` in `folder`.
    pub(super) fn read(folder: &Path, wallet: &Wallet) -> Result<Found, CustodyError> {
        let path = folder.join(NAME);
        let bytes = match file::read_private(&path, MAX_FILE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Found::Damaged),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => return Ok(Found::Damaged),
            Err(error) => return Err(file::io_error(&path, error)),
        };
        let ours = Self::decode(&bytes).filter(|s| s.ceremony == wallet.ceremony && s.party == wallet.party);
        Ok(ours.map_or(Found::Damaged, Found::State))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        if Sha256::digest(body)[..] != sum[..] {
            return None;
        }
        let (state, rest) = postcard::take_from_bytes(body.strip_prefix(MAGIC)?).ok()?;
        rest.is_empty().then_some(state)
    }

    /// Replaces the file; durable when it returns. The writing of a ban has places for a crash test.
    pub(super) fn write(&self, folder: &Path, is_ban: bool) -> Result<(), CustodyError> {
        let path = folder.join(NAME);
        let encoded = postcard::to_allocvec(self).map_err(|e| file::io_error(&path, std::io::Error::other(e)))?;
        let mut bytes = [&MAGIC[..], &encoded].concat();
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        let written = || {
            if is_ban {
                failpoint!("ban_tmp_written");
            }
        };
        let renamed = || {
            if is_ban {
                failpoint!("ban_renamed");
            }
        };
        file::replace(folder, NAME, 0o600, &bytes, written, renamed).map_err(|error| file::io_error(&path, error))
    }

    /// The freeze that this state means.
    pub(super) fn frozen(&self) -> Option<Frozen> {
        if let Some((peer, at)) = self.bans.first() {
            return Some(Frozen::Banned { peer: *peer, at: *at });
        }
        if self.lost {
            return Some(Frozen::Lost);
        }
        (self.unclean >= MAX_UNCLEAN).then_some(Frozen::Unclean)
    }

    /// The freeze to show people. An open mark is not counted: the process may be running.
    pub(super) fn shown(found: Found, wallet: &Wallet) -> Result<Option<Frozen>, u32> {
        Self::at_start(
            match found {
                Found::State(state) => Found::State(Self { marked: false, ..state }),
                other => other,
            },
            wallet,
        )
        .map(|state| state.frozen())
    }

    /// The state with which `wallet` starts, given what the disk says; counts an unclean stop.
    ///
    /// A complete refresh, seen by the share's higher epoch, lifts bans and counters: the material they spoke of is gone.
    pub(super) fn at_start(found: Found, wallet: &Wallet) -> Result<Self, u32> {
        let state = match found {
            Found::Missing | Found::Damaged => Self { lost: true, ..Self::new(wallet) },
            Found::State(old) if old.epoch > wallet.epoch => return Err(old.epoch),
            Found::State(old) if old.epoch < wallet.epoch => {
                Self { turn: old.turn, next: old.next, peer_head: old.peer_head, ..Self::new(wallet) }
            }
            Found::State(mut old) => {
                old.unclean = old.unclean.saturating_add(u32::from(old.marked));
                old
            }
        };
        Ok(Self { marked: false, ..state })
    }
}
