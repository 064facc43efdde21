//! Reading logs back: files in the order in which they were written, each line checked.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::row::{Line, Row, VERSION};

/// A log that is wrong, with its place.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not one of ours.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// One line with its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// What it tells.
    pub row: Row,
}

impl Row {
    /// Its time, ms.
    pub const fn at(&self) -> i64 {
        match self {
            Self::Decision(d) => d.at,
            Self::Outcome(o) => o.at,
            Self::Refusals(m) => m.at,
        }
    }
}

/// The log files of `paths`: a folder stands for those in it. In the order in which they were begun.
///
/// # Errors
/// [`ReadError::File`].
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ReadError> {
    let mut all = Vec::new();
    for path in paths {
        let failed = |source| ReadError::File { path: path.clone(), source };
        if !path.metadata().map_err(failed)?.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("decisions") && name.ends_with(".jsonl") {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::NotFound, "there is no decisions*.jsonl in it")));
        }
        found.sort();
        all.extend(found);
    }
    let mut dated = Vec::new();
    for path in all {
        dated.push((first(&path)?, path));
    }
    dated.sort();
    Ok(dated.into_iter().map(|(_, path)| path).collect())
}

/// When the first line of a file was written; an empty one is the newest.
fn first(path: &Path) -> Result<i64, ReadError> {
    let mut at = i64::MAX;
    read(path, &mut |placed| {
        at = placed.row.at();
        Ok(false)
    })?;
    Ok(at)
}

/// Reads one file line by line for as long as `each` answers true.
///
/// # Errors
/// [`ReadError`]: the first line that is wrong, or what `each` says is wrong with one.
pub fn read(path: &Path, each: &mut dyn FnMut(Placed) -> Result<bool, String>) -> Result<(), ReadError> {
    let failed = |source| ReadError::File { path: path.to_path_buf(), source };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut text = Vec::new();
    let mut number = 0;
    loop {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(failed)? == 0 {
            return Ok(());
        }
        number += 1;
        if text.last() != Some(&b'\n') {
            // Being written at this moment, or when the process died.
            return Ok(());
        }
        let wrong = |what: String| ReadError::Line { path: path.to_path_buf(), line: number, what };
        let row = parse(&text).map_err(wrong)?;
        if !each(Placed { file: path.to_path_buf(), line: number, row }).map_err(wrong)? {
            return Ok(());
        }
    }
}

fn parse(text: &[u8]) -> Result<Row, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    // The version first: another format may have none of our fields.
    let Version { v } = serde_json::from_slice(text).map_err(|_| "not a line of a decision log".to_owned())?;
    if v != VERSION {
        return Err(format!("written in format {v}, and this program reads {VERSION}: use the version of tollpass that wrote it"));
    }
    serde_json::from_slice::<Line>(text).map(|line| line.row).map_err(|e| format!("damaged: {e}"))
}
