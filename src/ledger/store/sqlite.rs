//! SQLite: the only place with SQL. WAL, so that a reader never stops the writer; full sync, so that a commit is on the disk.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;

use rusqlite::{Connection, OpenFlags, Row, Statement, params};

use super::row::{self, Corrupt, column};
use super::{Change, Loaded};
use crate::ledger::books::PinKey;
use crate::ledger::counters::{MINUTE_MS, MINUTES_MS, QUARTER_MS, RATE_MS};
use crate::ledger::history::{self, REACH_MS};
use crate::ledger::index::Live;
use crate::ledger::posting::{By, Kind, Posting, Tags};
use crate::ledger::{OpenError, Purchase, PurchaseState};
use crate::payment::{AgentId, MicroUsd, Payee, Payer, Timestamp};
use crate::policy::RuleId;

/// The schema this program writes.
const VERSION: i64 = 3;

/// Those before it, which are brought up to date at open: the statements that make each the next.
const MIGRATIONS: [&str; 2] = [include_str!("migrate_1.sql"), include_str!("migrate_2.sql")];

/// The oldest that is still read.
const OLDEST: i64 = 1;

/// The database of a state folder.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("ledger.db")
}

/// Wraps an error with the file it is about.
pub(super) fn failed(path: &Path) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Store { path: path.clone(), source }
}

/// Opens the database for the writer, creating it if there is none.
pub(super) fn open(dir: &Path) -> Result<Connection, OpenError> {
    let path = path(dir);
    let failed = failed(&path);
    private_file(&path).map_err(|e| failed(e.into()))?;
    let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|e| failed(e.into()))?;
    let version = version(&conn).map_err(|e| failed(e.into()))?;
    let fresh = version == 0 && is_empty(&conn).map_err(|e| failed(e.into()))?;
    if !(OLDEST..=VERSION).contains(&version) && !fresh {
        return Err(OpenError::Schema { path, found: version, known: VERSION });
    }
    prepare(&conn, fresh).map_err(|e| failed(e.into()))?;
    if !fresh {
        migrate(&conn, version).map_err(|e| failed(e.into()))?;
    }
    Ok(conn)
}

/// Opens the database beside a running writer.
pub(super) fn open_to_read(dir: &Path) -> Result<Connection, OpenError> {
    let path = path(dir);
    let failed = failed(&path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).map_err(|e| failed(e.into()))?;
    conn.busy_timeout(BUSY).map_err(|e| failed(e.into()))?;
    let found = version(&conn).map_err(|e| failed(e.into()))?;
    if (OLDEST..=VERSION).contains(&found) { Ok(conn) } else { Err(OpenError::Schema { path, found, known: VERSION }) }
}

/// The lock file keeps other writers out; only a reader's moment of recovery is waited for.
const BUSY: Duration = Duration::from_millis(500);

/// WAL pages before a checkpoint: 16 MiB, so that one costs little per hold.
pub(super) const CHECKPOINT_PAGES: i64 = 4096;

fn private_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.set_permissions(Permissions::from_mode(0o600))
}

fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |r| r.get(0))
}

fn is_empty(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

fn prepare(conn: &Connection, fresh: bool) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidQuery);
    }
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 67108864;")?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    if fresh {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {} COMMIT;", include_str!("schema.sql")))?;
    }
    Ok(())
}

/// All of it or nothing: a crash in the middle leaves the version before.
fn migrate(conn: &Connection, version: i64) -> rusqlite::Result<()> {
    let steps = MIGRATIONS.iter().skip(usize::try_from(version - OLDEST).unwrap_or(0)).copied().collect::<Vec<_>>().concat();
    if steps.is_empty() { Ok(()) } else { conn.execute_batch(&format!("BEGIN IMMEDIATE; {steps} COMMIT;")) }
}

/// Makes a new file name durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Sequence and last recorded time.
fn meta(conn: &Connection) -> rusqlite::Result<(u64, Timestamp)> {
    conn.query_row("SELECT sequence, last_at FROM meta", [], |r| {
        Ok((r.get::<_, i64>(0)?.cast_unsigned(), Timestamp::from_millis(r.get(1)?)))
    })
}

/// Reads all purchases, oldest first.
pub(super) fn all_purchases(conn: &Connection) -> Result<Vec<Purchase>, Corrupt> {
    // A ledger that no writer of this version has opened yet is shown as it is.
    let columns = match version(conn) {
        Ok(1) => "*, valid_before AS last_valid_before, NULL AS identity, 0 AS unverified, NULL AS ticket, NULL AS customer",
        Ok(2) => "*, NULL AS customer",
        _ => "*",
    };
    rows(conn, &format!("SELECT {columns} FROM purchases ORDER BY num"), [], |r| Ok(row::purchase(r)?.1))
}

/// Replays the store into fresh books: sums, the last hour's commitments, pins, and what is not delivered yet.
pub(super) fn load(conn: &Connection) -> Result<Loaded, Corrupt> {
    let (sequence, last) = meta(conn).map_err(|e| Corrupt { column: "meta", source: Some(e) })?;
    let mut loaded = Loaded { sequence, last, ..Loaded::default() };
    let books = &mut loaded.books;
    let agent_entry = |r: &Row<'_>| -> Result<(AgentId, RuleId), Corrupt> {
        Ok((column(r, "agent", |t: String| t.parse().ok())?, RuleId(column(r, "entry", |t: String| Some(t.into()))?)))
    };
    // Old money by quarters, that of the last month by minutes, for windows that slide.
    for (unit, newer, from) in [(QUARTER_MS, false, last.millis() - MINUTES_MS), (MINUTE_MS, true, last.millis() - MINUTES_MS)] {
        let sums = format!(
            "SELECT agent, entry, at / {unit} * {unit} AS at, wallet, payee, identity, unverified, host, session, customer, granted, \
             sum(micro) AS micro FROM postings WHERE (at > ?1) = ?2 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
        );
        rows(conn, &sums, params![from, newer], |r| {
            let (agent, entry) = agent_entry(r)?;
            let at = Timestamp::from_millis(column(r, "at", Some)?);
            let micro = column(r, "micro", Some)?;
            books.restore_sum(&Posting { agent, entry, at, micro, kind: Kind::Hold, tags: tags(r)?, by: by(r)? });
            Ok(())
        })?;
    }
    rows(conn, "SELECT agent, entry, at FROM postings WHERE kind = 'hold' AND at > ?1 ORDER BY at", [last.millis() - RATE_MS], |r| {
        let (agent, entry) = agent_entry(r)?;
        books.restore_instant(&agent, &entry, Timestamp::from_millis(column(r, "at", Some)?));
        Ok(())
    })?;
    rows(conn, "SELECT * FROM pins", [], |r| {
        let (agent, entry) = agent_entry(r)?;
        let key = PinKey { agent, entry, host: column(r, "host", Some)?, chain: column(r, "chain", row::chain)? };
        books.pin_first(key, Payee(column(r, "payee", |b: [u8; 20]| Some(b.into()))?));
        Ok(())
    })?;
    let first =
        "SELECT min(num) AS num, agent, entry, host, method, at, held FROM purchases WHERE consumed = 1 AND at < ?1 GROUP BY 2, 3, 4, 5";
    let recent = "SELECT num, agent, entry, host, method, at, held FROM purchases WHERE consumed = 1 AND at >= ?1 ORDER BY num";
    for sql in [first, recent] {
        rows(conn, sql, [last.millis() - REACH_MS], |r| {
            let (agent, entry) = agent_entry(r)?;
            let key = history::Key { agent, entry, host: column(r, "host", Some)?, method: column(r, "method", Some)? };
            let at = Timestamp::from_millis(column(r, "at", Some)?);
            books.restore_history(key, column(r, "num", Some)?, at, MicroUsd::new(column(r, "held", Some)?));
            Ok(())
        })?;
    }
    rows(conn, "SELECT * FROM purchases WHERE consumed = 0 AND state <> ?1 ORDER BY num", [PurchaseState::Void.as_str()], |r| {
        let (num, purchase) = row::purchase(r)?;
        books.enter_live(&purchase);
        let live = Live { purchase: purchase.into(), num, postings: Vec::new(), writing: false, waiter: false, exchange: false, owner: 0 };
        books.index().insert(live).ok_or(Corrupt { column: "id", source: None })
    })?;
    let next = conn.query_row("SELECT coalesce(max(num), 0) + 1 FROM purchases", [], |r| r.get(0));
    books.index().start_at(next.map_err(|e| Corrupt { column: "num", source: Some(e) })?);
    Ok(loaded)
}

/// A proxy's posting says where it paid; a co-signer's does not.
fn tags(r: &Row<'_>) -> Result<Option<Arc<Tags>>, Corrupt> {
    let Some(host) = column(r, "host", |t: Option<String>| Some(t.map(Arc::<str>::from)))? else { return Ok(None) };
    let payee = Payee(column(r, "payee", |b: Option<[u8; 20]>| b.map(Address::from))?);
    let session = column(r, "session", |t: Option<String>| t.map(|t| t.parse().ok()).map_or(Some(None), |s| s.map(Some)))?;
    let customer = column(r, "customer", |t: Option<String>| Some(t.map(Arc::<str>::from)))?;
    Ok(Some(Tags { host, payee, session, customer, granted: column(r, "granted", Some)? }.into()))
}

/// A co-signer's further counters: all three columns, or neither wallet nor identity.
fn by(r: &Row<'_>) -> Result<Option<Arc<By>>, Corrupt> {
    let bytes = |name| column(r, name, |b: Option<[u8; 20]>| Some(b.map(Address::from)));
    let identity = column(r, "identity", |t: Option<String>| Some(t.map(Arc::<str>::from)))?;
    match (bytes("wallet")?, bytes("payee")?, identity) {
        (None, _, None) => Ok(None),
        (Some(wallet), Some(payee), Some(identity)) => {
            let unverified = column(r, "unverified", Some)?;
            Ok(Some(By { wallet: Payer(wallet), payee: Payee(payee), identity, unverified }.into()))
        }
        _ => Err(Corrupt { column: "wallet", source: None }),
    }
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    mut f: impl FnMut(&Row<'_>) -> Result<T, Corrupt>,
) -> Result<Vec<T>, Corrupt> {
    let failed = |e| Corrupt { column: "*", source: Some(e) };
    let mut statement = conn.prepare(sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        all.push(f(row)?);
    }
    Ok(all)
}

const POSTING: &str = "INSERT INTO postings (purchase, agent, entry, at, micro, kind, wallet, payee, identity, unverified, host, \
    session, customer, granted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// The writer's prepared statements.
pub(super) struct Session<'c> {
    conn: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    purchase: Statement<'c>,
    status: Statement<'c>,
    terms: Statement<'c>,
    posting: Statement<'c>,
    pin: Statement<'c>,
    meta: Statement<'c>,
    synced: bool,
}

impl<'c> Session<'c> {
    pub(super) fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            purchase: conn.prepare(row::INSERT)?,
            status: conn.prepare(row::STATUS)?,
            terms: conn.prepare(row::TERMS)?,
            posting: conn.prepare(POSTING)?,
            pin: conn.prepare("INSERT OR IGNORE INTO pins VALUES (?1, ?2, ?3, ?4, ?5)")?,
            meta: conn.prepare("UPDATE meta SET sequence = ?1, last_at = ?2")?,
            synced: true,
        })
    }

    /// One transaction, all or nothing. With `sync` it and everything before it is on the disk when this returns.
    pub(super) fn write<'a>(
        &mut self,
        mut changes: impl Iterator<Item = &'a Change>,
        sequence: u64,
        last: Timestamp,
        sync: bool,
    ) -> rusqlite::Result<()> {
        if self.synced != sync {
            self.conn.execute_batch(if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })?;
            self.synced = sync;
        }
        self.begin.execute([])?;
        let written = changes.try_for_each(|c| self.apply(c));
        let done = written.and_then(|()| {
            self.meta.execute(params![sequence.cast_signed(), last.millis()])?;
            crate::failpoint!("hold_written");
            self.commit.execute([]).map(drop)
        });
        if done.is_err() && !self.conn.is_autocommit() {
            // A connection that cannot even roll back stays in its transaction: the next BEGIN fails and nothing is held.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        done
    }

    /// After a failure: moves everything out of the log into the database and empties the log, so that no page whose sync
    /// failed (and which the kernel now believes clean) lies before what is written next.
    pub(super) fn recover(&self) -> rusqlite::Result<()> {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| match r.get::<_, i64>(0)? {
            0 => Ok(()),
            _ => Err(rusqlite::Error::QueryReturnedNoRows),
        })
    }

    fn apply(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Hold { num, purchase, posting } => {
                row::insert(&mut self.purchase, *num, purchase)?;
                self.post(*num, posting)
            }
            Change::Raise { num, purchase, posting, .. } => {
                row::terms(&mut self.terms, *num, purchase)?;
                posting.iter().try_for_each(|p| self.post(*num, p))
            }
            Change::Status { num, purchase, pin } => {
                row::status(&mut self.status, *num, purchase)?;
                let Some(key) = pin else { return Ok(()) };
                let chain = key.chain.id().cast_signed();
                self.pin.execute(params![key.agent.as_str(), &*key.entry.0, key.host, chain, purchase.payee.0.as_slice()])?;
                Ok(())
            }
            Change::Void { num, purchase, postings } => {
                row::status(&mut self.status, *num, purchase)?;
                postings.iter().try_for_each(|p| self.post(*num, p))
            }
        }
    }

    fn post(&mut self, num: i64, p: &Posting) -> rusqlite::Result<()> {
        let kind = match p.kind {
            Kind::Hold => "hold",
            Kind::Raise => "raise",
            Kind::Release => "release",
        };
        let (by, tags) = (p.by.as_deref(), p.tags.as_deref());
        self.posting.execute(params![
            num,
            p.agent.as_str(),
            &*p.entry.0,
            p.at.millis(),
            p.micro,
            kind,
            by.map(|by| by.wallet.0.as_slice()),
            by.map(|by| by.payee.0).or(tags.map(|tags| tags.payee.0)).as_ref().map(|a| a.as_slice()),
            by.map(|by| &*by.identity),
            by.is_some_and(|by| by.unverified),
            tags.map(|tags| &*tags.host),
            tags.and_then(|tags| tags.session.as_ref()).map(|s| s.as_str()),
            tags.and_then(|tags| tags.customer.as_deref()),
            p.granted(),
        ])?;
        Ok(())
    }
}
