//! Small durable state as lines of JSON: what is appended is on the disk before anybody is answered. For tickets, mandates and
//! sessions; money has the ledger.
//!
//! A crash can tear only the last line, which nobody was told of: it is dropped at the next open. Any other line that does not read is
//! damage and refuses to open, for a lost line could be a no.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// An append failed, so what the file ends with is not known: nothing more is appended.
    broken: bool,
}

impl Journal {
    /// Opens or creates `path` (0600) and reads what it says.
    ///
    /// # Errors
    /// I/O, or a line other than the last that does not read; the message names file and line.
    pub fn open<T: DeserializeOwned>(path: &Path) -> io::Result<(Self, Vec<T>)> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        // What follows the last line end was being written when the process died.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut entries = Vec::new();
        for (n, line) in text[..whole].lines().enumerate() {
            let damaged = |e| io::Error::other(format!("{}:{}: damaged: {e}; restore the newest copy of this file", path.display(), n + 1));
            entries.push(serde_json::from_str(line).map_err(damaged)?);
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        file.set_len(u64::try_from(whole).map_err(io::Error::other)?)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok((Self { path: path.to_owned(), file, broken: false }, entries))
    }

    /// Appends one entry; durable when this returns.
    ///
    /// # Errors
    /// I/O. After an error nothing more is appended by this process: the file may end with half a line.
    pub fn append<T: Serialize>(&mut self, entry: &T) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        self.broken = true;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.broken = false;
        Ok(())
    }

    /// Replaces everything by `entries`, all or nothing.
    ///
    /// # Errors
    /// I/O; the file is as it was then.
    pub fn rewrite<'a, T: Serialize + 'a>(&mut self, entries: impl IntoIterator<Item = &'a T>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry).map_err(io::Error::other)?;
            text.push(b'\n');
        }
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        sync_folder(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.broken = false;
        Ok(())
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_appended_is_there_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let (mut journal, entries) = Journal::open::<u32>(&path).unwrap();
        assert_eq!(entries, Vec::<u32>::new());
        journal.append(&1_u32).unwrap();
        journal.append(&2_u32).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(journal);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"33").unwrap();
        let (mut journal, entries) = Journal::open::<u32>(&path).unwrap();
        assert_eq!(entries, [1, 2]);
        journal.append(&3_u32).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n3\n");
        journal.rewrite(&[7_u32, 8]).unwrap();
        journal.append(&9_u32).unwrap();
        assert_eq!(Journal::open::<u32>(&path).unwrap().1, [7, 8, 9]);
    }

    #[test]
    fn a_damaged_line_refuses_to_open_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        fs::write(&path, "1\nx\n3\n").unwrap();
        let error = Journal::open::<u32>(&path).unwrap_err().to_string();
        assert!(error.contains("j.jsonl:2: damaged"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\nx\n3\n", "nothing was changed");
    }
}
