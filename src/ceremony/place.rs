//! What a ceremony leaves on the disk, and what a crash of one means.
//!
//! A creation works in `FOLDER.pending` and renames it to `FOLDER` when all three parties have tried their shares: the wallet
//! exists from then on. A file `tested` in it, durable before this party says so to the others, is the line: before it nobody
//! can have a wallet and the folder may be thrown away; after it another party may have one already, and only people who look
//! at the other two screens know. A refresh draws the same line beside `share.next`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use alloy_primitives::hex;

use super::{CeremonyError, Step};
use crate::custody::Custody;
use crate::mpc::Wallet;

const TESTED: &str = "tested";

/// The folder of a share, before and after there is one.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what may be thrown away.
    Nothing,
    /// A creation that was interrupted after its tests: finish or discard, as the other screens say.
    Tested(Box<Wallet>),
    /// A wallet.
    Wallet(Box<Wallet>),
}

/// A tested share of the next epoch: which epoch, and which run of the refresh made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tested {
    /// Its epoch.
    pub epoch: u32,
    /// The refresh's instance.
    pub run: [u8; 32],
}

impl Place {
    /// The place of a share in `folder`.
    ///
    /// # Errors
    /// [`CeremonyError::Here`] if the path has no name to put another one beside.
    pub fn new(folder: &Path) -> Step<Self> {
        match folder.file_name() {
            Some(_) => Ok(Self { folder: folder.to_owned() }),
            None => Err(CeremonyError::here(format!(
                "{} cannot hold a share: write a folder such as /var/lib/tollpass/share",
                folder.display()
            ))),
        }
    }

    /// The folder of the share in force.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a share that is not a wallet yet.
    pub fn pending(&self) -> PathBuf {
        let mut name = self.folder.clone().into_os_string();
        name.push(".pending");
        name.into()
    }

    /// Keeps other creations away while the answer lives: the folder around the share is locked, nothing is written.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn lock(&self) -> Step<File> {
        use rustix::fs::{FlockOperation, flock};
        let around = parent(&self.folder);
        let failed = |e: &dyn std::fmt::Display| CeremonyError::here(format!("cannot use {}: {e}", around.display()));
        fs::create_dir_all(around).map_err(|e| failed(&e))?;
        let file = File::open(around).map_err(|e| failed(&e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => Err(failed(&"another creation is under way there")),
            Err(e) => Err(failed(&e)),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// [`CeremonyError`] if a share is there and cannot be read.
    pub fn look(&self) -> Step<Found> {
        if self.folder.join("share").exists() {
            return Ok(Found::Wallet(Box::new(Custody::inspect(&self.folder)?.0)));
        }
        if self.pending().join(TESTED).exists() {
            return Ok(Found::Tested(Box::new(Custody::inspect(&self.pending())?.0)));
        }
        Ok(Found::Nothing)
    }

    /// Throws a pending share away, overwriting it first as well as the disk lets us.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn discard(&self) -> Step<()> {
        let pending = self.pending();
        if !pending.exists() {
            return Ok(());
        }
        let wipe = || {
            // The mark goes first: half of a thrown away folder is no tested one.
            match fs::remove_file(pending.join(TESTED)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            overwrite(&pending.join("share"))?;
            fs::remove_dir_all(&pending)?;
            sync(parent(&pending))
        };
        wipe().map_err(|e| CeremonyError::here(format!("cannot remove {}: {e}", pending.display())))
    }

    /// Makes the empty folder of a pending share.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn prepare(&self) -> Step<PathBuf> {
        let pending = self.pending();
        let make = || {
            fs::create_dir_all(parent(&pending))?;
            fs::DirBuilder::new().mode(0o700).create(&pending)?;
            sync(parent(&pending))
        };
        make().map_err(|e| CeremonyError::here(format!("cannot make {}: {e}", pending.display())))?;
        Ok(pending)
    }

    /// Draws the line in a pending folder: every pair has signed with this share.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn mark_pending(&self, tested: Tested) -> Step<()> {
        mark(&self.pending(), tested)
    }

    /// Makes the pending share the wallet: one rename.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn finish(&self) -> Step<()> {
        let rename = || {
            fs::rename(self.pending(), &self.folder)?;
            sync(parent(&self.folder))
        };
        rename().map_err(|e| {
            let shown = self.folder.display();
            CeremonyError::here(format!(
                "cannot rename {} to {shown}: {e}; {shown} must be absent or empty, and no mount point",
                self.pending().display()
            ))
        })
    }

    /// Draws the line for a staged share.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn mark_staged(&self, tested: Tested) -> Step<()> {
        mark(&self.folder, tested)
    }

    /// The run that made the share in force, or a tested one beside it.
    pub fn tested(&self) -> Option<Tested> {
        read(&self.folder)
    }

    /// Takes the line away, durably, before a new share is staged: a mark never speaks of another share than the one it was
    /// made for.
    ///
    /// # Errors
    /// [`CeremonyError::Here`].
    pub fn unmark_staged(&self) -> Step<()> {
        let path = self.folder.join(TESTED);
        let remove = || match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => sync(&self.folder),
        };
        remove().map_err(|e| CeremonyError::here(format!("cannot remove {}: {e}", path.display())))
    }

    /// The mark of a pending share.
    pub fn tested_pending(&self) -> Option<Tested> {
        read(&self.pending())
    }
}

fn read(folder: &Path) -> Option<Tested> {
    let text = fs::read_to_string(folder.join(TESTED)).ok()?;
    let (epoch, run) = text.trim().split_once(' ')?;
    Some(Tested { epoch: epoch.parse().ok()?, run: hex::decode(run).ok()?.try_into().ok()? })
}

fn mark(folder: &Path, tested: Tested) -> Step<()> {
    let (path, beside) = (folder.join(TESTED), folder.join("tested.tmp"));
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{} {}", tested.epoch, hex::encode(tested.run))?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        sync(folder)
    };
    write().map_err(|e: io::Error| CeremonyError::here(format!("cannot write {}: {e}", path.display())))
}

fn overwrite(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    io::copy(&mut io::Read::take(io::repeat(0), meta.len()), &mut file)?;
    file.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_without_the_mark_may_go_and_one_with_it_is_asked_about() {
        let home = tempfile::tempdir().unwrap();
        let place = Place::new(&home.path().join("s")).unwrap();
        assert_eq!(place.look().unwrap(), Found::Nothing);
        let held = place.lock().unwrap();
        assert!(place.lock().unwrap_err().to_string().contains("under way"));
        drop(held);
        assert!(place.lock().is_ok());
        let pending = place.prepare().unwrap();
        fs::write(pending.join("share"), b"half").unwrap();
        assert_eq!(place.look().unwrap(), Found::Nothing);
        place.discard().unwrap();
        assert!(!pending.exists());
        place.discard().unwrap();
        assert!(Place::new(Path::new("/")).is_err());
        let tested = Tested { epoch: 2, run: [7; 32] };
        fs::create_dir(place.folder()).unwrap();
        place.mark_staged(tested).unwrap();
        assert_eq!(place.tested(), Some(tested));
    }
}
