//! From one epoch of a share to the next: a complete refresh (S7).
//!
//! [`Custody::stage_next`] writes `share.next`; a new process proves with [`Custody::open_staged`] that it opens; when all
//! parties have said so, [`Custody::activate_next`] links `share` as `share.previous` and renames `share.next` over `share`;
//! [`Custody::destroy_previous`] overwrites and removes the old one. A crash between any two of these leaves a folder whose
//! `share` opens. Bans and the count of unclean stops belong to an epoch, so the rename lifts them in the same instant.

use std::path::Path;

use super::{Custody, CustodyError, NEXT, PREVIOUS, SHARE, Unseal, facts, file, sealed, unsealed};
use crate::failpoint;
use crate::mpc::{Share, Wallet};

impl Custody {
    /// Writes the share of the next epoch beside the one in force. A staged one from an earlier attempt is replaced.
    ///
    /// # Errors
    /// [`CustodyError::Step`] if it is not this wallet's next epoch.
    pub fn stage_next(&self, next: &Share, unseal: &Unseal) -> Result<(), CustodyError> {
        self.follows(next.wallet())?;
        unseal.is_apart_from(&self.folder)?;
        let (tmp, done) = (|| failpoint!("next_tmp_written"), || failpoint!("next_written"));
        sealed(&self.folder, NEXT, next, unseal, tmp, done)
    }

    /// Opens the staged share, without the lock: for the new process that proves that it opens, while the old one waits.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub fn open_staged(folder: &Path, unseal: &Unseal) -> Result<Share, CustodyError> {
        unsealed(folder, NEXT, unseal)
    }

    /// The facts of the share in force, of the staged one and of the previous one, where there are any: what a ceremony that
    /// was interrupted has to finish. Not authenticated.
    ///
    /// # Errors
    /// [`CustodyError`] of a file that is there and cannot be read.
    pub fn epochs(folder: &Path) -> Result<[Option<Wallet>; 3], CustodyError> {
        let fact = |name: &str| if folder.join(name).exists() { facts(folder, name).map(Some) } else { Ok(None) };
        Ok([fact(SHARE)?, fact(NEXT)?, fact(PREVIOUS)?])
    }

    /// Puts the staged share in force; the old one becomes `share.previous`. Bans and unclean stops of the old epoch end with
    /// it. Consumes this custody: open the folder again.
    ///
    /// # Errors
    /// [`CustodyError::Step`] if nothing fitting is staged.
    pub fn activate_next(self) -> Result<(), CustodyError> {
        self.follows(&facts(&self.folder, NEXT)?)?;
        let path = |name| self.folder.join(name);
        let folder = &self.folder;
        let step = |name| move |error| file::io_error(&folder.join(name), error);
        // A leftover of an earlier refresh, or of a crash right after the link below.
        if path(PREVIOUS).exists() {
            file::shred(&path(PREVIOUS), || ()).map_err(step(PREVIOUS))?;
        }
        std::fs::hard_link(path(SHARE), path(PREVIOUS)).map_err(step(PREVIOUS))?;
        file::sync_folder(folder).map_err(step(PREVIOUS))?;
        failpoint!("previous_linked");
        std::fs::rename(path(NEXT), path(SHARE)).map_err(step(NEXT))?;
        failpoint!("next_activated");
        file::sync_folder(folder).map_err(step(SHARE))
    }

    /// Overwrites and removes the share of the epoch before. Nothing to do is no error.
    ///
    /// # Errors
    /// [`CustodyError`]; [`CustodyError::Step`] if `share.previous` is not older than the share in force.
    pub fn destroy_previous(&self) -> Result<(), CustodyError> {
        let path = self.folder.join(PREVIOUS);
        if !path.exists() {
            return Ok(());
        }
        // A crash while it was overwritten leaves one that cannot be read: it is the old one all the same.
        if let Ok(old) = facts(&self.folder, PREVIOUS)
            && old.epoch >= self.share.wallet().epoch
        {
            return Err(CustodyError::Step { path, why: "it is not older than the share in force: activate first" });
        }
        let step = |error| file::io_error(&path, error);
        file::shred(&path, || failpoint!("previous_overwritten")).map_err(step)?;
        failpoint!("previous_destroyed");
        file::sync_folder(&self.folder).map_err(step)
    }

    /// Is `next` this wallet's next epoch?
    fn follows(&self, next: &Wallet) -> Result<(), CustodyError> {
        let now = self.share.wallet();
        let same = (&next.id, next.address, next.party, next.ceremony) == (&now.id, now.address, now.party, now.ceremony);
        if same && Some(next.epoch) == now.epoch.checked_add(1) {
            return Ok(());
        }
        Err(CustodyError::Step { path: self.folder.join(NEXT), why: "not the next epoch of the share in force" })
    }
}
