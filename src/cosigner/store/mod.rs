//! What the co-signer must not forget, beside its ledger. SQLite, full sync; what is answered waits for the disk.
//!
//! One writer thread commits what came together in one transaction and one fdatasync. Keys, turns and enrolments are waited
//! for; replay ids ride along with them, in the order they came: a request's id is durable no later than the
//! key it led to, so a crash forgets no request that changed anything.

mod enroll;
mod replay;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

pub use enroll::{EnrollError, Row, TOKEN_LIFE, TokenRow};

use crate::payment::Timestamp;
use replay::Replays;
use writer::Writer;

/// Signing sessions for one key, the first included (S5).
pub const MAX_SESSIONS: u32 = 5;

/// The schema this program writes.
const VERSION: i64 = 1;

/// Another process, `wallet enroll` or `wallet revoke`, writes for a moment only.
const BUSY: Duration = Duration::from_secs(2);

/// The store. Cheap to share; the last one to go waits for what is queued.
pub struct Store {
    writer: Writer,
    /// For look-ups on every request, so that they never wait for a sync.
    reader: Mutex<Connection>,
    replays: Mutex<Replays>,
    head: Arc<AtomicU64>,
}

/// Another digest under the same key (S5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// One key ↔ one digest for ever.
    Conflict,
    /// Signed five times already.
    TooOften,
    /// The store failed: nothing may be signed.
    Unavailable,
}

/// The answer to a turn exchange ([`crate::wire::message::Hello`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The exchange stands, now or from an earlier try.
    Taken,
    /// An older token: somebody runs a copy of the share's state.
    Copied,
}

/// The store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the co-signer's store is unavailable")]
pub struct Unavailable;

impl Store {
    /// Opens or creates `<folder>/cosigner.db`.
    ///
    /// # Errors
    /// What is wrong, with the file.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("cosigner.db");
        let shown = || format!("cannot use {}", path.display());
        let mut conn = connect(&path, true).with_context(shown)?;
        prepare(&mut conn, &path)?;
        let reader = connect(&path, false).with_context(shown)?;
        let head: i64 = reader.query_row("SELECT head FROM meta", [], |r| r.get(0)).with_context(shown)?;
        let replays = Replays::load(&reader).with_context(shown)?;
        let head = Arc::new(AtomicU64::new(head.cast_unsigned()));
        let writer = Writer::start(conn, Arc::clone(&head)).with_context(shown)?;
        Ok(Self { writer, reader: Mutex::new(reader), replays: Mutex::new(replays), head })
    }

    /// Sequence of the last durable transaction. It only ever grows: a peer that sees it shrink knows of a rollback (S2).
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// False after a write failed, until one succeeds.
    pub fn available(&self) -> bool {
        self.writer.available()
    }

    /// Remembers `key ↔ digest` of `purchase`, durably, and counts the session; answers how often it was signed before.
    /// Blocking: [`Self::remember`] is the same for async callers.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn key(&self, key: [u8; 16], purchase: [u8; 16], digest: B256) -> Result<u32, KeyError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.writer.submit(
            true,
            move |conn| remember(conn, key, purchase, digest),
            move |done| {
                let _ = reply.send(done);
            },
        );
        answer.recv().ok().flatten().unwrap_or(Err(KeyError::Unavailable))
    }

    /// [`Self::key`] without blocking the thread.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn remember(&self, key: [u8; 16], purchase: [u8; 16], digest: B256) -> Result<u32, KeyError> {
        self.durably(move |conn| remember(conn, key, purchase, digest)).await.unwrap_or(Err(KeyError::Unavailable))
    }

    /// True if this request was never seen from this sender (S11). Remembered for twice the window, also over a restart.
    pub fn fresh(&self, sender: [u8; 32], id: [u8; 16], now: Timestamp) -> bool {
        let Some((name, until, expired)) = lock(&self.replays).admit(sender, id, now) else { return false };
        let write = move |conn: &Connection| {
            if expired {
                conn.prepare("DELETE FROM replays WHERE until < ?1")?.execute([now.millis()])?;
            }
            conn.prepare("INSERT OR IGNORE INTO replays (id, until) VALUES (?1, ?2)")?.execute(params![name, until.millis()])
        };
        self.writer.submit(false, write, |_| ());
        true
    }

    /// Exchanges a turn token, durably. The same exchange may be repeated; any other token than the current one is a copy's.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn turn(&self, wallet: &str, epoch: u32, turn: [u8; 16], next: [u8; 16]) -> Result<Turn, Unavailable> {
        let wallet = wallet.to_owned();
        self.durably(move |conn| exchange(conn, &wallet, epoch, turn, next)).await
    }

    /// The turn token in force.
    pub fn current_turn(&self, wallet: &str) -> Option<[u8; 16]> {
        let conn = lock(&self.reader);
        conn.query_row("SELECT current FROM turns WHERE wallet = ?1", [wallet], |r| r.get(0)).optional().ok().flatten()
    }

    /// Waits until everything queued so far is durable.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn flush(&self) -> Result<(), Unavailable> {
        self.durably(|_| Ok(())).await
    }

    /// Runs `work` in the next transaction and waits until it is on the disk.
    async fn durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.writer.submit(true, work, move |done| {
            let _ = reply.send(done);
        });
        answer.await.ok().flatten().ok_or(Unavailable)
    }

    fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Unavailable> {
        f(&lock(&self.reader)).map_err(|error| {
            tracing::error!(%error, "the co-signer's store cannot be read");
            Unavailable
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("head", &self.head()).finish_non_exhaustive()
    }
}

fn remember(conn: &Connection, key: [u8; 16], purchase: [u8; 16], digest: B256) -> rusqlite::Result<Result<u32, KeyError>> {
    let mut find = conn.prepare("SELECT digest, sessions FROM keys WHERE key = ?1 AND purchase = ?2")?;
    let mut taken = conn.prepare("SELECT 1 FROM keys WHERE key = ?1")?;
    let found: Option<([u8; 32], u32)> = find.query_row(params![key, purchase], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    match found {
        Some((known, _)) if known != digest.0 => Ok(Err(KeyError::Conflict)),
        Some((_, sessions)) if sessions >= MAX_SESSIONS => Ok(Err(KeyError::TooOften)),
        Some((_, sessions)) => {
            conn.prepare("UPDATE keys SET sessions = sessions + 1 WHERE key = ?1")?.execute([key])?;
            Ok(Ok(sessions))
        }
        None if taken.exists([key])? => Ok(Err(KeyError::Conflict)),
        None => {
            let mut insert = conn.prepare("INSERT INTO keys (key, purchase, digest, sessions) VALUES (?1, ?2, ?3, 1)")?;
            insert.execute(params![key, purchase, digest.0])?;
            Ok(Ok(0))
        }
    }
}

fn exchange(conn: &Connection, wallet: &str, epoch: u32, turn: [u8; 16], next: [u8; 16]) -> rusqlite::Result<Turn> {
    type Known = (u32, [u8; 16], [u8; 16]);
    let mut find = conn.prepare("SELECT epoch, previous, current FROM turns WHERE wallet = ?1")?;
    let known: Option<Known> = find.query_row([wallet], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()?;
    let first = turn == [0; 16];
    let taken = match known {
        _ if next == turn || next == [0; 16] => return Ok(Turn::Copied),
        None => first,
        // A refresh makes new shares, which start from zero or go on from where the old ones were.
        Some((before, _, current)) if epoch > before => first || turn == current,
        Some((before, previous, current)) if epoch == before && turn == previous && next == current => return Ok(Turn::Taken),
        Some((before, _, current)) => epoch == before && turn == current,
    };
    if !taken {
        return Ok(Turn::Copied);
    }
    let mut put = conn.prepare("INSERT OR REPLACE INTO turns (wallet, epoch, previous, current) VALUES (?1, ?2, ?3, ?4)")?;
    put.execute(params![wallet, epoch, turn, next])?;
    Ok(Turn::Taken)
}

fn connect(path: &Path, create: bool) -> anyhow::Result<Connection> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if create {
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    }
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")?;
    Ok(conn)
}

fn prepare(conn: &mut Connection, path: &Path) -> anyhow::Result<()> {
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))?;
    anyhow::ensure!(mode == "wal", "{}: the file system has no write-ahead log", path.display());
    conn.pragma_update(None, "wal_autocheckpoint", 4096)?;
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = tx.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    if version == 0 {
        tx.execute_batch(include_str!("schema.sql"))?;
    }
    tx.commit()?;
    let found: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0))?;
    anyhow::ensure!(found == VERSION, "{} has schema version {found}, this program knows {VERSION}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the store of a folder is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("cosigner.db")
}

#[cfg(test)]
mod tests;
