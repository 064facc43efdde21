//! Hand-over: a new process takes the listening sockets, then the ledger, and the old one ends. No connection is refused or
//! reset, for the sockets are never closed; no payment is lost or made twice, for only the holder of the ledger's lock pays.
//!
//! | new (`serve --handover`) | old |
//! |---|---|
//! | asks at `private/handover.sock` | |
//! | | gives copies of its sockets, and goes on serving |
//! | serves: forwards, refuses payments (`ledger_handover`) | |
//! | says so | accepts no more, refuses payments, waits for paid requests, lets go of ledger and signer |
//! | takes them, pays, says so | |
//! | | lets its connections finish, ends |
//!
//! If the new process is gone before its last word, the old one takes back what it gave and serves on.

mod wire;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::App;
use super::cashier::{Cashier, is_taken};
use super::doors::Offered;
use crate::proxy::Phase;
pub(super) use wire::Call;
use wire::{Bell, Line, MAX_SOCKETS, Said, VERSION};

/// How long one side waits for a word of the other that costs it no more than a start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long ledger and signer may take to change hands.
const TAKING: Duration = Duration::from_secs(60);

/// How often a lock is tried, and a count looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The new process's side, before it serves.
#[derive(Debug)]
pub(super) struct Taking {
    line: Line,
    /// The sockets of the running process.
    pub(super) offered: Vec<Offered>,
}

/// Asks the process that runs on this state for its sockets; `None` if there is none. Blocking.
pub(super) fn ask(private: &Path) -> Result<Option<Taking>> {
    let call = || -> Result<Option<Taking>> {
        let Some(line) = Line::call(private, PATIENCE)? else { return Ok(None) };
        // If it has refused already, its answer is there.
        let _ = line.say(&Said::Give { version: VERSION });
        let mut offered: Vec<Offered> = Vec::new();
        loop {
            match line.hear() {
                Ok((Said::Sockets { key, asked }, sockets)) => match offered.iter_mut().find(|o| o.key == key && o.asked == asked) {
                    Some(more) => more.sockets.extend(sockets),
                    None => offered.push(Offered { key, asked, sockets }),
                },
                Ok((Said::All, _)) => return Ok(Some(Taking { line, offered })),
                Ok((Said::No { why }, _)) => bail!("the running process does not hand over: {why}"),
                Ok(_) => bail!("the running process speaks another version"),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!("the running process does not answer"),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let taking = call().context("--handover")?;
    if taking.is_none() {
        tracing::info!("nobody hands over on this state: starting as usual");
    }
    Ok(taking)
}

impl Taking {
    /// Tells the old process that these keys are served here.
    pub(super) fn serving(&self, keys: Vec<String>) -> Result<()> {
        // Without the cause: a pipe that broke here is no pipe of ours that somebody closed.
        self.line.say(&Said::Serving { keys }).map_err(|error| anyhow!("the running process has gone back on its hand-over: {error}"))
    }

    /// Waits for ledger and signer, takes them, and says so: from then on it is we who can be asked for them. Ends early if
    /// `stop` says so. Blocking.
    pub(super) fn take(self, cashier: &Cashier, stop: &AtomicBool) -> Result<Option<Ear>> {
        let paid = cashier.config.drain.paid;
        let mut silent = None;
        while !stop.load(Ordering::Relaxed) {
            match cashier.open() {
                Ok(till) => {
                    let ear = Ear::open(cashier);
                    cashier.proxy.open_till(till);
                    tracing::info!("ledger and signer are taken over: payments go on");
                    // If it is gone already, so much the better.
                    let _ = self.line.say(&Said::Took);
                    return Ok(ear);
                }
                Err(error) if !is_taken(&error) => return Err(error.context("cannot take over")),
                Err(_) => {}
            }
            if silent.is_none() && self.line.is_over() {
                silent = Some(Instant::now());
            }
            if silent.is_some_and(|since| since.elapsed() > paid + PATIENCE) {
                bail!("the old process neither ends nor lets go of the ledger");
            }
            std::thread::sleep(LOOK);
        }
        Ok(None)
    }
}

/// The old process's ear.
#[derive(Debug)]
pub(super) struct Ear(Bell);

impl Ear {
    /// Listens for the process that follows. Without it a hand-over is not possible, and nothing else is lost.
    pub(super) fn open(cashier: &Cashier) -> Option<Self> {
        let _runtime = cashier.money.enter();
        match Bell::hang(&cashier.config.private()) {
            Ok(bell) => Some(Self(bell)),
            Err(error) => {
                tracing::warn!(%error, "cannot listen for a hand-over: a restart will refuse connections for a moment");
                None
            }
        }
    }

    /// False if whoever failed to take over listens in our place.
    pub(super) fn is_heard(&self) -> bool {
        self.0.hangs()
    }

    /// The next call.
    pub(super) async fn call(&self) -> Call {
        loop {
            match self.0.answer().await {
                Ok(call) => return call,
                Err(error) => {
                    tracing::warn!(%error, "cannot answer a call for a hand-over");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Refuses a call: one at a time.
pub(super) async fn decline(call: Call) {
    // What it says is read first: closing over unread words would take the answer back.
    let _ = tokio::time::timeout(PATIENCE, call.hear()).await;
    call.refuse("it is handing over already");
}

/// Hands everything over to the caller. True if it has it, and this process is to end; false if we go on as before.
///
/// # Errors
/// If it has not, and we cannot go on either.
pub(super) async fn give(app: &App, call: Call) -> Result<bool> {
    let keys = match tokio::time::timeout(PATIENCE, offer(app, &call)).await {
        Ok(Ok(keys)) => keys,
        Ok(Err(error)) => {
            tracing::warn!("a hand-over came to nothing: {error:#}");
            return Ok(false);
        }
        Err(_) => {
            tracing::warn!("a hand-over came to nothing: the new process took too long");
            return Ok(false);
        }
    };
    tracing::info!("another process serves here: handing over");
    app.doors().filter(|door| keys.iter().any(|k| k == door.key)).for_each(|door| door.set(Phase::Yielding));
    app.proxy.set_phase(Phase::Yielding);
    if settle(app, &call).await {
        return Ok(true);
    }
    tracing::warn!("the new process is gone before it had the ledger: serving on");
    app.proxy.set_phase(Phase::Serving);
    app.doors().for_each(|door| door.set(Phase::Serving));
    if app.proxy.till().is_none() {
        reopen(&app.cashier).await.context("the hand-over failed, and the ledger cannot be opened again")?;
    }
    Ok(false)
}

/// Gives copies of the sockets; waits until the caller serves. Answers with the keys it serves.
async fn offer(app: &App, call: &Call) -> Result<Vec<String>> {
    match call.hear().await? {
        Said::Give { version: VERSION } => {}
        Said::Give { version } => {
            let why = format!("it is of another version (hand-over {VERSION}, not {version}): stop it first");
            call.refuse(&why);
            bail!(why);
        }
        other => bail!("unexpected {other:?}"),
    }
    for door in app.doors() {
        for sockets in door.sockets.chunks(MAX_SOCKETS) {
            let said = Said::Sockets { key: door.key.into(), asked: door.asked };
            call.say(&said, sockets).await?;
        }
    }
    call.say(&Said::All, &[]).await?;
    match call.hear().await? {
        Said::Serving { keys } => Ok(keys),
        other => bail!("unexpected {other:?}"),
    }
}

/// Waits for paid requests, lets go of ledger and signer, waits until the other side has them. False if it is gone.
async fn settle(app: &App, call: &Call) -> bool {
    let Some(till) = app.proxy.close_till() else { return true };
    let quiet = async {
        while app.proxy.paid_tasks() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = tokio::time::sleep(app.drain.paid) => {
            // Their tasks keep the ledger; it falls with this process.
            tracing::warn!(tasks = app.proxy.paid_tasks(), "paid requests did not finish in time; their amounts stay spent");
            return true;
        }
        _ = call.hear() => {
            // Nothing is to be heard before the ledger is free: the new process is gone.
            app.proxy.open_till(till);
            return false;
        }
    }
    if let Err(error) = app.cashier.release(till).await {
        tracing::error!("{error:#}");
    }
    match tokio::time::timeout(TAKING, call.hear()).await {
        Ok(said) => matches!(said, Ok(Said::Took)),
        Err(_) => {
            tracing::error!("the new process has not taken the ledger within {} s", TAKING.as_secs());
            false
        }
    }
}

/// Takes the ledger back: the lock of the other process falls when it is really gone.
async fn reopen(cashier: &Arc<Cashier>) -> Result<()> {
    let since = Instant::now();
    loop {
        let again = cashier.clone();
        match tokio::task::spawn_blocking(move || again.open()).await? {
            Err(error) if is_taken(&error) && since.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            done => return done.map(|till| cashier.proxy.open_till(till)),
        }
    }
}
