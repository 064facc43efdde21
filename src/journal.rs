//! Small durable state beside the ledger: one JSON object a line, appended and synced before anybody is told (tickets, mandates,
//! sessions). A line that a crash cut off at the end never counted; any other line that cannot be read is an error, because what
//! it forbade would be allowed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

/// An open journal. Whoever opens it holds the ledger's lock, so there is one writer.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Set when a write failed: what is on disk is not known, so nothing more is promised.
    broken: bool,
}

impl Journal {
    /// Opens the file, or makes it (0600), and reads its lines. A torn last line is cut off.
    ///
    /// # Errors
    /// It cannot be read or made, or a line in it is not JSON.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Value>)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let (lines, whole) = parse(path, &mut file)?;
        file.set_len(whole)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok((Self { path: path.to_owned(), file, broken: false }, lines))
    }

    /// The lines as they are, without becoming the writer. No file has no lines.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn peek(path: &Path) -> io::Result<Vec<Value>> {
        match File::open(path) {
            Ok(mut file) => Ok(parse(path, &mut file)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Appends a line and waits for the disk.
    ///
    /// # Errors
    /// It may or may not be on disk: from then on every call fails, until the journal is opened again.
    pub fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed; restart to read what is on disk"));
        }
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        self.broken = written.is_err();
        written
    }

    /// Puts these lines in the place of all lines, at once or not at all.
    ///
    /// # Errors
    /// The old lines stay.
    pub fn rewrite<T: Serialize>(&mut self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let temp = self.path.with_extension("jsonl.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, &self.path)?;
        sync_folder(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.broken = false;
        Ok(())
    }
}

/// The lines, and how many bytes of the file they are.
fn parse(path: &Path, file: &mut File) -> io::Result<(Vec<Value>, u64)> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let mut lines = Vec::new();
    for (n, line) in text[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let value = serde_json::from_slice(line);
        lines.push(value.map_err(|e| io::Error::other(format!("{}:{}: {e}", path.display(), n + 1)))?);
    }
    Ok((lines, whole as u64))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn lines_come_back_and_a_torn_last_one_never_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert!(lines.is_empty());
        journal.append(&json!({"a": 1})).unwrap();
        journal.append(&json!({"a": 2})).unwrap();
        drop(journal);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"a\": 3").unwrap();
        assert_eq!(Journal::peek(&path).unwrap(), [json!({"a": 1}), json!({"a": 2})]);
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert_eq!(lines, [json!({"a": 1}), json!({"a": 2})]);
        journal.append(&json!({"a": 4})).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1.last(), Some(&json!({"a": 4})));
    }

    #[test]
    fn a_broken_line_in_the_middle_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        fs::write(&path, "{\"a\":1}\n{\"a\":\n{\"a\":3}\n").unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("x.jsonl:2:"), "{error}");
    }

    #[test]
    fn a_rewrite_replaces_everything_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        for n in 0..5 {
            journal.append(&json!(n)).unwrap();
        }
        journal.rewrite([json!(7), json!(8)]).unwrap();
        journal.append(&json!(9)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, [json!(7), json!(8), json!(9)]);
        assert!(Journal::peek(&folder.path().join("none")).unwrap().is_empty());
    }
}
