//! One hot file: read, compare, parse, swap.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::Target;
use crate::policy::Source;

/// The largest hot file or folder that is read.
const MAX_BYTES: u64 = 8 << 20;

/// A hot file that could not be loaded at start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has mistakes; each a line with its place.
    #[error("{}", .0.join("\n"))]
    Parse(Vec<String>),
}

/// Reads a policy file, or the `*.yaml` and `*.yml` files of a folder in name order; after them the lists of payees beside them,
/// `*.payees`. What ends in `.test.yaml` or `.test.yml` holds cases and no rules: a folder's are left out. Dot entries are skipped (a Kubernetes volume keeps its old and new generation there), links are followed.
///
/// # Errors
/// The first file that cannot be read; a folder without policy files is an error too.
pub fn read_policy_sources(path: &Path) -> io::Result<Vec<Source>> {
    let mut left = MAX_BYTES;
    if !std::fs::metadata(path)?.is_dir() {
        let mut sources = vec![read_source(path, &mut left)?];
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A folder that cannot be listed has no lists: a policy that names one does not load then.
        for name in named(folder, &[".payees"]).unwrap_or_default() {
            sources.push(read_source(&folder.join(name), &mut left)?);
        }
        return Ok(sources);
    }
    let mut names = named(path, &[".yaml", ".yml"])?;
    names.retain(|name| !is_cases(name));
    if names.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the folder has no *.yaml or *.yml file"));
    }
    names.iter().chain(&named(path, &[".payees"])?).map(|name| read_source(&path.join(name), &mut left)).collect()
}

/// Whether a file of this name holds the cases of a policy (`tollpass policy test`) and not a policy.
pub fn is_cases(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".test.yaml") || name.ends_with(".test.yml")
}

/// Names in `folder` that end so, in order.
fn named(folder: &Path, ends: &[&str]) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with('.') && ends.iter().any(|end| text.ends_with(end)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read_source(path: &Path, left: &mut u64) -> io::Result<Source> {
    let fail = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > *left {
        return Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, "hot files may have 8 MiB together")));
    }
    *left -= size;
    let text = std::fs::read_to_string(path).map_err(fail)?;
    Ok(Source { name: path.display().to_string(), text })
}

fn digest(sources: &[Vec<Source>; 2]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for s in sources.iter().flatten() {
        for part in [&s.name, &s.text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

/// What the thread does to every hot file.
pub(super) trait Recheck: Send {
    fn path(&self) -> &Path;
    /// Reads again and swaps if the content is new; `talk` logs also when it is not.
    fn recheck(&mut self, talk: bool);
}

/// A target with its current value.
pub(super) struct Hot<T> {
    target: Target<T>,
    current: Arc<ArcSwap<T>>,
    epoch: u64,
    /// What the last attempt saw, good or broken, so that a broken file is logged once.
    seen: Result<[u8; 32], String>,
    good: bool,
}

impl<T> Target<T> {
    fn beside(&self, sources: &[Source]) -> Vec<Source> {
        self.gate.as_ref().map(|gate| (gate.beside)(sources)).unwrap_or_default()
    }

    fn value(&self, sources: &[Source], beside: &[Source], epoch: u64) -> Result<T, Vec<String>> {
        let value = (self.parse)(sources, epoch)?;
        self.gate.as_ref().map_or(Ok(()), |gate| (gate.admit)(&value, sources, beside))?;
        Ok(value)
    }
}

impl<T: Send + Sync> Hot<T> {
    pub(super) fn load(target: Target<T>) -> Result<(Self, Arc<ArcSwap<T>>), LoadError> {
        let sources = read_policy_sources(&target.path).map_err(|source| LoadError::Read { path: target.path.clone(), source })?;
        let beside = target.beside(&sources);
        let value = Arc::new(target.value(&sources, &beside, 1).map_err(LoadError::Parse)?);
        let current = Arc::new(ArcSwap::new(value.clone()));
        (target.loaded)(&value);
        Ok((Self { target, current: current.clone(), epoch: 1, seen: Ok(digest(&[sources, beside])), good: true }, current))
    }

    /// The same for a value that the process can do without: what cannot be loaded is logged, and `none` stands in for it.
    pub(super) fn load_or(target: Target<T>, none: T) -> (Self, Arc<ArcSwap<T>>) {
        let current = Arc::new(ArcSwap::from_pointee(none));
        let mut hot = Self { target, current: current.clone(), epoch: 0, seen: Ok([0; 32]), good: true };
        hot.recheck(false);
        (hot, current)
    }

    fn fail(&mut self, seen: Result<[u8; 32], String>, errors: &[String]) {
        let name = self.target.name;
        for error in errors {
            tracing::error!("{name} not reloaded: {error}");
        }
        tracing::error!(path = %self.target.path.display(), mistakes = errors.len(), "{name} is broken: the one before stays in effect");
        (self.seen, self.good) = (seen, false);
        (self.target.failed)();
    }
}

impl<T: Send + Sync> Recheck for Hot<T> {
    fn path(&self) -> &Path {
        &self.target.path
    }

    fn recheck(&mut self, talk: bool) {
        let name = self.target.name;
        let read = read_policy_sources(&self.target.path).map(|sources| {
            let beside = self.target.beside(&sources);
            [sources, beside]
        });
        let seen = read.as_ref().map(digest).map_err(ToString::to_string);
        if seen == self.seen {
            if talk {
                tracing::info!(good = self.good, "{name} is unchanged");
            }
            return;
        }
        let [sources, beside] = match read {
            Ok(read) => read,
            Err(error) => return self.fail(seen, &[error.to_string()]),
        };
        match self.target.value(&sources, &beside, self.epoch + 1) {
            Ok(value) => {
                let value = Arc::new(value);
                self.epoch += 1;
                (self.seen, self.good) = (seen, true);
                self.current.store(value.clone());
                (self.target.loaded)(&value);
                tracing::info!(epoch = self.epoch, files = sources.len(), "{name} reloaded");
            }
            Err(errors) => self.fail(seen, &errors),
        }
    }
}
