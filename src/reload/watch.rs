//! The one file system watcher of the process.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Signal;

/// Device and inode: a folder that was replaced is another folder under the same name.
type Identity = (u64, u64);

pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, Identity>,
}

impl Watch {
    /// A watcher that signals through `sender`; without one, or without inotify instances left, it watches nothing.
    pub(super) fn start(sender: Option<Sender<Signal>>) -> Self {
        let watcher = sender.and_then(|sender| {
            let signal = move |event: notify::Result<Event>| {
                if event.map_or(true, |e| matters(&e.kind)) {
                    let _ = sender.send(Signal::Changed);
                }
            };
            notify::recommended_watcher(signal)
                .inspect_err(|error| tracing::warn!(%error, "no file system events: hot files are polled instead"))
                .ok()
        });
        Self { watcher, folders: BTreeMap::new() }
    }

    /// Watches the folders that a change of any of `paths` shows in, and drops those that are no longer needed.
    pub(super) fn follow<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeMap<PathBuf, Identity> = paths.flat_map(folders).collect();
        for (folder, identity) in &self.folders {
            if wanted.get(folder) != Some(identity) {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
        }
        let mut watched = BTreeMap::new();
        for (folder, identity) in wanted {
            if self.folders.get(&folder) == Some(&identity) {
                watched.insert(folder, identity);
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(folder, identity)),
                Err(error) => tracing::warn!(%error, folder = %folder.display(), "cannot watch this folder: it is polled instead"),
            }
        }
        self.folders = watched;
    }
}

/// Our own reading makes open and close events; only writing counts.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The parent of `path`, `path` itself if it is a folder, and the parent of what it finally points at.
fn folders(path: &Path) -> Vec<(PathBuf, Identity)> {
    let parent = |p: &Path| p.parent().map(|f| if f.as_os_str().is_empty() { PathBuf::from(".") } else { f.to_path_buf() });
    let itself = path.is_dir().then(|| path.to_path_buf());
    let target = path.canonicalize().ok().and_then(|p| parent(&p));
    [parent(path), itself, target]
        .into_iter()
        .flatten()
        .filter_map(|folder| {
            let meta = std::fs::metadata(&folder).ok()?;
            Some((folder, (meta.dev(), meta.ino())))
        })
        .collect()
}
