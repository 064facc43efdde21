//! The state of a running process: what is looked at before every step is in memory, what must be durable is written before
//! the call returns, and what may wait a second is written by a thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rand::TryRng;

use super::file;
use super::state::State;
use super::{CustodyError, Frozen};
use crate::failpoint;
use crate::mpc::Party;
use crate::payment::Timestamp;

/// How long no session must be open before the mark of an unclean stop is taken off; also how late a peer's head may be.
const QUIET: Duration = Duration::from_secs(1);

/// The state file of a running process, and the thread that writes what may wait.
pub(super) struct StateFile {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    folder: PathBuf,
    /// Read before every protocol step.
    frozen: ArcSwapOption<Frozen>,
    peer_head: AtomicU64,
    /// A turn token was made by this process.
    fresh: AtomicBool,
    /// Held while the disk is written. Taken before `live`, never after it.
    disk: Mutex<Disk>,
    /// Never held while the disk is written.
    live: Mutex<Live>,
    wake: Condvar,
}

struct Disk {
    /// What the file holds.
    state: State,
    /// Bans that the disk refused; every later write tries them again.
    owed: Vec<(Party, Timestamp)>,
}

struct Live {
    /// Sessions open now.
    open: u32,
    /// When the last one ended.
    quiet_since: Instant,
    /// The mark is durable and stays: sessions may open without a write.
    marked: bool,
    stop: bool,
}

impl StateFile {
    /// Takes over `state`, which is on the disk already.
    pub(super) fn start(folder: &Path, state: State) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            folder: folder.to_owned(),
            frozen: ArcSwapOption::from_pointee(state.frozen()),
            peer_head: AtomicU64::new(state.peer_head),
            fresh: AtomicBool::new(false),
            disk: Mutex::new(Disk { state, owed: Vec::new() }),
            live: Mutex::new(Live { open: 0, quiet_since: Instant::now(), marked: false, stop: false }),
            wake: Condvar::new(),
        });
        let held = inner.clone();
        let thread = std::thread::Builder::new().name("tollpass-custody".into()).spawn(move || held.keep())?;
        Ok(Self { inner, thread: Some(thread) })
    }

    pub(super) fn frozen(&self) -> Option<Frozen> {
        self.inner.frozen.load().as_deref().cloned()
    }

    pub(super) fn ban(&self, peer: Party, at: Timestamp) -> Result<(), CustodyError> {
        // Memory first, before any lock that a slow disk may hold: queued work stops now.
        if self.inner.frozen.load().is_none() {
            self.inner.frozen.store(Some(Arc::new(Frozen::Banned { peer, at })));
        }
        failpoint!("ban_in_memory");
        let mut disk = self.inner.disk();
        let is_of = |(banned, _): &(Party, Timestamp)| *banned == peer;
        if disk.state.bans.iter().any(is_of) {
            return Ok(());
        }
        if !disk.owed.iter().any(is_of) {
            disk.owed.push((peer, at));
        }
        self.inner.update(&mut disk, |_| ())
    }

    pub(super) fn session_opened(&self) -> Result<(), CustodyError> {
        if self.inner.opens_at_once()? {
            return Ok(());
        }
        let mut disk = self.inner.disk();
        // Another session may have written the mark while this one waited.
        if self.inner.opens_at_once()? {
            return Ok(());
        }
        self.inner.update(&mut disk, |state| state.marked = true)?;
        let mut live = self.inner.live();
        live.marked = true;
        live.open += 1;
        Ok(())
    }

    pub(super) fn session_closed(&self) {
        let mut live = self.inner.live();
        live.open = live.open.saturating_sub(1);
        live.quiet_since = Instant::now();
    }

    pub(super) fn turn(&self) -> Result<([u8; 16], [u8; 16]), CustodyError> {
        let mut disk = self.inner.disk();
        if let Some(next) = disk.state.next {
            return Ok((disk.state.turn, next));
        }
        let mut next = [0; 16];
        rand::rngs::SysRng.try_fill_bytes(&mut next).map_err(|e| file::io_error(&self.inner.folder, std::io::Error::other(e)))?;
        self.inner.update(&mut disk, |state| state.next = Some(next))?;
        self.inner.fresh.store(true, Ordering::Release);
        Ok((disk.state.turn, next))
    }

    pub(super) fn turned(&self) -> Result<bool, CustodyError> {
        let mut disk = self.inner.disk();
        if let Some(next) = disk.state.next {
            self.inner.update(&mut disk, |state| {
                state.turn = next;
                state.next = None;
            })?;
        }
        Ok(self.inner.fresh.load(Ordering::Acquire))
    }

    pub(super) fn peer_head(&self, head: u64) -> Result<(), u64> {
        let before = self.inner.peer_head.fetch_max(head, Ordering::AcqRel);
        if head < before { Err(before) } else { Ok(()) }
    }
}

impl Inner {
    // A panic while a lock was held leaves a state that is at worst stricter than needed.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a session if the mark is durable already.
    fn opens_at_once(&self) -> Result<bool, CustodyError> {
        if let Some(frozen) = self.frozen.load().as_deref() {
            return Err(CustodyError::Frozen(frozen.clone()));
        }
        let mut live = self.live();
        if live.marked {
            live.open += 1;
        }
        Ok(live.marked)
    }

    /// Writes the state with `change`, all that is owed and the newest head; nothing changes if the disk refuses.
    fn update(&self, disk: &mut Disk, change: impl FnOnce(&mut State)) -> Result<(), CustodyError> {
        let mut state = disk.state.clone();
        change(&mut state);
        state.peer_head = self.peer_head.load(Ordering::Acquire);
        state.bans.extend(disk.owed.iter().copied());
        state.write(&self.folder, !disk.owed.is_empty())?;
        disk.state = state;
        disk.owed.clear();
        Ok(())
    }

    /// Once a second, and at the stop, writes what may wait.
    fn keep(&self) {
        loop {
            let waited = self.wake.wait_timeout_while(self.live(), QUIET, |live| !live.stop);
            let stop = waited.unwrap_or_else(PoisonError::into_inner).0.stop;
            self.settle(stop);
            if stop {
                return;
            }
        }
    }

    /// Writes a mark that goes, the peer's newer head, a ban that the disk refused.
    fn settle(&self, at_stop: bool) {
        let mut disk = self.disk();
        // At a clean stop sessions that are still open make it an unclean one: the mark stays.
        let unmark = disk.state.marked && self.unmarks(at_stop);
        let owed = !disk.owed.is_empty() || self.peer_head.load(Ordering::Acquire) > disk.state.peer_head;
        if unmark || owed {
            // If it fails, the next round tries again; a mark left on the disk is only stricter.
            let _ = self.update(&mut disk, |state| state.marked &= !unmark);
        }
    }

    /// Takes the mark off in memory if no session needs it.
    fn unmarks(&self, at_stop: bool) -> bool {
        let mut live = self.live();
        let unmarks = live.open == 0 && (at_stop || live.quiet_since.elapsed() >= QUIET);
        if unmarks {
            live.marked = false;
        }
        unmarks
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        self.inner.live().stop = true;
        self.inner.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
