//! One ledger, one process (M1.9): flock on `ledger.lock`, and no state on a memory file system.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;

use super::OpenError;

/// Takes the lock of `dir` without waiting. It is held as long as the file is open, and falls with the process.
pub(super) fn take(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("ledger.lock");
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = open.map_err(|e| OpenError::Store { path: path.clone(), source: e.into() })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked(path)),
        Err(e) => Err(OpenError::Store { path, source: e.into() }),
    }
}

/// `statfs` magic numbers of tmpfs and ramfs. An overlay is as durable as what lies under it.
const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// Refuses a folder that a restart empties.
pub(super) fn refuse_memory(dir: &Path) -> Result<(), OpenError> {
    let stat = statfs(dir).map_err(|e| OpenError::Store { path: dir.to_owned(), source: e.into() })?;
    // The width and sign of f_type differ between platforms; the magic is 32 bits.
    let magic = (stat.f_type as u64 & 0xffff_ffff) as u32;
    if MEMORY.contains(&magic) { Err(OpenError::Ephemeral(dir.to_owned())) } else { Ok(()) }
}
