//! Room in the write-ahead log that exists before it is needed: bringing a page to the disk that makes its file longer takes
//! about twice as long as one that lies over written zeros (ext4: 430 against 220 µs), and every hold waits for that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::sqlite::CHECKPOINT_PAGES;

/// Bytes added at a time: tens of holds, and a few milliseconds for a disk that writes 200 MB a second.
const STEP: usize = 1 << 20;

/// A frame of the log: a page behind its header of 24 bytes (SQLite file format §4.1). After so many it begins anew at its start.
const MOST: u64 = CHECKPOINT_PAGES.unsigned_abs() * (4096 + 24);

/// Looks after the length of the log. Only the writer's thread may call it, between transactions: what SQLite finds behind its
/// last frame it takes for the rest of an earlier round, which no checksum fits.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    /// As it was left; `None`: there is no room to be had.
    length: Option<u64>,
}

impl Room {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join("ledger.db-wal"), length: Some(0) }
    }

    /// If the last transaction had to make the log longer, makes it longer for those that come.
    pub(super) fn tend(&mut self) {
        let Some(before) = self.length else { return };
        let Ok(found) = fs::metadata(&self.path) else { return };
        let mut length = found.len();
        if before < length && length < MOST {
            match lengthen(&self.path, length) {
                Ok(longer) => length = longer,
                Err(error) => {
                    tracing::debug!(%error, "no room for the ledger's log ahead of its use");
                    self.length = None;
                    return;
                }
            }
        }
        self.length = Some(length);
    }
}

/// Writes zeros behind the end; what could not be written whole leaves nothing, for a full disk is needed for better things.
fn lengthen(path: &Path, length: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let written = file.write_all(&vec![0; STEP]).and_then(|()| file.sync_data());
    if let Err(error) = written {
        let _: io::Result<()> = File::set_len(&file, length);
        return Err(error);
    }
    Ok(length + STEP as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_grows_ahead_only_when_it_had_to_grow_and_never_past_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut room = Room::new(folder.path());
        room.tend();
        let log = File::create(folder.path().join("ledger.db-wal")).unwrap();
        let step = STEP as u64;
        for (written, left) in [(0, 0), (4152, 4152 + step), (4152 + step, 4152 + step), (9000 + step, 9000 + 2 * step), (MOST, MOST)] {
            log.set_len(written).unwrap();
            room.tend();
            assert_eq!(log.metadata().unwrap().len(), left, "after {written}");
        }
        // Emptied after a failure: it begins anew.
        log.set_len(0).unwrap();
        room.tend();
        log.set_len(1).unwrap();
        room.tend();
        assert_eq!(log.metadata().unwrap().len(), 1 + step);
        assert!(room.length.is_some());
    }
}
