//! The two files behind the stops.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use crate::payment::Timestamp;
use crate::policy::{Standing, Stopped};

/// The kill file's name in the private folder.
pub const KILL: &str = "kill";
const FROZEN: &str = "frozen.json";
/// Freezes are few, and a reason is one line.
const LONGEST: u64 = 8 << 20;

/// Tells one kill file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Seen {
        inode: u64,
        size: u64,
        changed: (i64, i64),
    },
    /// It cannot be looked at.
    Unknown(io::ErrorKind),
}

impl Mark {
    /// `None` only if there certainly is no kill file.
    pub(super) fn of(private: &Path) -> Option<Self> {
        match fs::symlink_metadata(private.join(KILL)) {
            Ok(meta) => Some(Self::Seen { inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Self::Unknown(error.kind())),
        }
    }
}

/// What the kill file says; whatever else stands in it, it stops everything.
pub(super) fn read_kill(private: &Path) -> Stopped {
    let text = text_of(&private.join(KILL)).unwrap_or_default();
    serde_json::from_str::<Stopped>(&text).ok().filter(|s| !s.why.chars().any(char::is_control)).unwrap_or_else(|| {
        let touched = fs::metadata(private.join(KILL)).and_then(|meta| meta.modified()).unwrap_or_else(|_| SystemTime::now());
        let since = touched.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Stopped { by: "file".into(), why: "the file `kill` is in the state folder".into(), at }
    })
}

/// Puts the kill file of a state folder in place; one that is there stays. Waits for the disk. For a command that finds no
/// running process, too.
///
/// # Errors
/// It cannot be written.
pub fn kill_in(private: &Path, stopped: &Stopped) -> io::Result<()> {
    if private.join(KILL).symlink_metadata().is_ok() {
        return Ok(());
    }
    replace(private, KILL, &serde_json::to_string(stopped)?)
}

/// Takes it away. False if there was none.
///
/// # Errors
/// It cannot be removed.
pub fn revive_in(private: &Path) -> io::Result<bool> {
    match fs::remove_file(private.join(KILL)) {
        Ok(()) => fs::File::open(private)?.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What was frozen when it was written last; nothing if there never was anything.
pub(super) fn read(private: &Path) -> io::Result<Standing> {
    let path = private.join(FROZEN);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    match text_of(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| named(e.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::default()),
        Err(error) => Err(named(error)),
    }
}

/// Writes what is frozen; the kill switch has a file of its own.
pub(super) fn write(private: &Path, standing: &Standing) -> io::Result<()> {
    let frozen = Standing { killed: None, ..standing.clone() };
    replace(private, FROZEN, &serde_json::to_string_pretty(&frozen)?)
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Beside it, and renamed over it: whoever reads sees the old file or the new one.
fn replace(private: &Path, name: &str, text: &str) -> io::Result<()> {
    let temp = private.join(format!("{name}.{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temp, private.join(name))?;
    fs::File::open(private)?.sync_all()
}
