//! Files that are replaced whole: written beside, synced, renamed, the folder synced. And the lock of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;

use super::CustodyError;

/// Replaces `folder/name` with `bytes`; `after_write` and `after_rename` are places for a crash test.
pub(super) fn replace(
    folder: &Path,
    name: &str,
    mode: u32,
    bytes: &[u8],
    after_write: impl FnOnce(),
    after_rename: impl FnOnce(),
) -> io::Result<()> {
    let temp = folder.join(format!("{name}.tmp"));
    // A leftover of a crash may be read-only; it is nobody's.
    match fs::remove_file(&temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    after_write();
    fs::rename(&temp, folder.join(name))?;
    after_rename();
    sync_folder(folder)
}

/// Makes what was renamed, linked or removed in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads at most `cap` bytes of a file that no other user can read; `Ok(None)` in the middle: it is open to all.
pub(super) fn read_private(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o007 != 0 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
    }
    Ok(Some(bytes))
}

/// Overwrites a file, then removes it. On a copy-on-write disk the old blocks may live on: destroy backups and disks too.
pub(super) fn shred(path: &Path, after_overwrite: impl FnOnce()) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    // Never through a second name: the active share may still have this one (a crash between link and rename).
    if meta.file_type().is_file() && meta.nlink() == 1 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut left = meta.len();
        while left > 0 {
            let n = left.min(4096);
            file.write_all(&[0; 4096][..n as usize])?;
            left -= n;
        }
        file.sync_all()?;
        after_overwrite();
    }
    fs::remove_file(path)
}

/// Takes the lock of `folder` without waiting; it falls with the process.
pub(super) fn lock(folder: &Path) -> Result<File, CustodyError> {
    let path = folder.join("share.lock");
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = open.map_err(|error| io_error(&path, error))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A child of the process that just let go holds the lock too, between its fork and its exec.
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(Errno::WOULDBLOCK) => return Err(CustodyError::Locked(path)),
            Err(e) => return Err(io_error(&path, e.into())),
        }
    }
}

/// How long a lock may look taken before it is.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// `statfs` magic numbers of tmpfs and ramfs.
const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// Refuses a folder that a restart empties: a ban must outlive the machine's power (S3).
pub(super) fn refuse_memory(folder: &Path) -> Result<(), CustodyError> {
    let stat = statfs(folder).map_err(|e| io_error(folder, e.into()))?;
    // The width and sign of f_type differ between platforms; the magic is 32 bits.
    let magic = (stat.f_type as u64 & 0xffff_ffff) as u32;
    if MEMORY.contains(&magic) { Err(CustodyError::Ephemeral(folder.to_owned())) } else { Ok(()) }
}

/// An error with its file.
pub(super) fn io_error(path: &Path, error: io::Error) -> CustodyError {
    CustodyError::Io { path: PathBuf::from(path), error }
}
