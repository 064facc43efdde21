//! `ledger.head`: the last sequence seen, kept beside the database so that a restored copy is noticed (M1.9).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the head is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// The head file of one store.
#[derive(Debug)]
pub(super) struct Head {
    path: PathBuf,
    seen: u64,
    written: Option<Instant>,
}

impl Head {
    /// Reads the head of `dir`; without a file nothing was seen.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ledger.head");
        let seen = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end().parse().map_err(io::Error::other)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Self { path, seen, written: None })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last sequence in the file.
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// True if `sequence` should be written and the last write is long enough ago.
    pub(super) fn is_due(&self, sequence: u64) -> bool {
        sequence > self.seen && self.written.is_none_or(|at| at.elapsed() >= EVERY)
    }

    /// Replaces the file. Call it only with a sequence that is on the disk: a head ahead of the store refuses to open.
    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        if sequence == self.seen {
            return Ok(());
        }
        self.written = Some(Instant::now());
        let temp = self.path.with_extension("head.new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temp)?;
        writeln!(file, "{sequence}")?;
        file.sync_data()?;
        fs::rename(&temp, &self.path)?;
        self.seen = sequence;
        Ok(())
    }
}
