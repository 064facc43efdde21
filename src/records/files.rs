//! The files of a log: one that is appended to, and as many older ones as are kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::payment::Timestamp;

/// The file that is appended to.
const CURRENT: &str = "decisions.jsonl";

/// How far back a torn line is looked for: further than any line is long.
const TAIL: u64 = 1 << 20;

/// Where a log is, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Its folder (0700); its files are 0600.
    pub folder: PathBuf,
    /// Bytes of one file.
    pub size: u64,
    /// How many files, the one that is appended to among them.
    pub files: usize,
}

/// The open log.
#[derive(Debug)]
pub(super) struct Files {
    keep: Keep,
    file: Option<(File, u64)>,
    dirty: bool,
}

impl Files {
    /// Opens what is there or makes it.
    ///
    /// # Errors
    /// I/O, with the path.
    pub(super) fn open(keep: Keep) -> io::Result<Self> {
        let mut files = Self { keep, file: None, dirty: false };
        match files.reopen() {
            Ok(_) => Ok(files),
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", files.keep.folder.display()))),
        }
    }

    fn reopen(&mut self) -> io::Result<&mut (File, u64)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.keep.folder)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(self.keep.folder.join(CURRENT))?;
        let length = whole(&mut file)?;
        Ok(self.file.insert((file, length)))
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// I/O; then none of them is there, as far as the file system lets us say so.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        let size = lines.len() as u64;
        if self.file.as_ref().is_some_and(|(_, length)| *length > 0 && length + size > self.keep.size) {
            self.rotate()?;
        }
        let (file, length) = match &mut self.file {
            Some(open) => open,
            None => self.reopen()?,
        };
        if let Err(error) = file.write_all(lines.as_bytes()) {
            let _ = file.set_len(*length);
            self.file = None;
            return Err(error);
        }
        *length += size;
        self.dirty = true;
        Ok(())
    }

    /// What was appended is on the disk after this.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty)
            && let Some((file, _)) = &self.file
        {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Puts the full file aside, and removes the oldest that are too many.
    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).rfc3339_millis();
        let stamp: String = now.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let name = (0..1000).map(|n| self.keep.folder.join(format!("decisions-{stamp}-{n:03}.jsonl"))).find(|p| !p.exists());
        let name = name.ok_or_else(|| io::Error::other("a thousand files in one moment"))?;
        fs::rename(self.keep.folder.join(CURRENT), name)?;
        let mut older = Vec::new();
        for entry in fs::read_dir(&self.keep.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("decisions-") && name.ends_with(".jsonl") {
                older.push(path);
            }
        }
        older.sort();
        let extra = older.len().saturating_sub(self.keep.files.saturating_sub(1));
        older.into_iter().take(extra).try_for_each(fs::remove_file)
    }
}

/// Cuts off what follows the last line end: it was being written when a process died. The length that is left.
fn whole(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(0);
    }
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|b| *b == b'\n') else { return Ok(if from == 0 { cut(file, 0)? } else { length }) };
    let whole = from + end as u64 + 1;
    if whole < length { cut(file, whole) } else { Ok(length) }
}

fn cut(file: &File, length: u64) -> io::Result<u64> {
    file.set_len(length)?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn all(keep: &Keep) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&keep.folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.iter().map(|p| fs::read_to_string(p).unwrap()).collect()
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep { folder: dir.path().join("d"), size: 8, files: 3 };
        let mut files = Files::open(keep.clone()).unwrap();
        for n in 0..6 {
            files.append(&format!("{n}{n}{n}{n}{n}\n")).unwrap();
        }
        assert_eq!(all(&keep), ["33333\n", "44444\n", "55555\n"]);
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(keep.folder.clone()), mode(keep.folder.join(CURRENT))), (0o700, 0o600));
        files.append("a line that is longer than a file may be\n").unwrap();
        assert_eq!(all(&keep).last().unwrap(), "a line that is longer than a file may be\n");
    }

    #[test]
    fn a_torn_line_is_cut_off_when_the_log_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep { folder: dir.path().to_owned(), size: 1000, files: 2 };
        for (before, after) in [("1\n2\n3", "1\n2\n4\n"), ("1", "4\n"), ("1\n", "1\n4\n"), ("", "4\n")] {
            fs::write(keep.folder.join(CURRENT), before).unwrap();
            Files::open(keep.clone()).unwrap().append("4\n").unwrap();
            assert_eq!(all(&keep), [after], "{before:?}");
        }
    }
}
