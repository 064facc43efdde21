//! What a serving process listens to: signals, the process that follows, and the one before.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::App;
use super::handover::{self, Call, Ear};

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to, or something failed.
    Stop,
    /// Another process has everything.
    HandedOver,
}

/// The signals of an operator.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Takes them over from the kernel, which would otherwise end the process. In a runtime, before anybody hears that we serve.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup: signal(SignalKind::hangup())? })
    }
}

/// SIGTERM and SIGINT end it, and a hand-over does; SIGHUP looks at the hot files at once.
pub(super) async fn attend(app: &mut App, signals: Signals) -> Result<End> {
    let Signals { mut term, mut int, mut hup } = signals;
    let (mut taken, mut ear) = (app.taken.take(), app.ear.take());
    let app = &*app;
    let mut giving = None;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(End::Stop),
            _ = int.recv() => return Ok(End::Stop),
            _ = hup.recv() => app.reloader.poke(),
            done = running(&mut taken) => {
                taken = None;
                ear = done??;
            }
            call = called(ear.as_ref()) => match giving {
                None => giving = Some(Box::pin(handover::give(app, call))),
                Some(_) => drop(tokio::spawn(handover::decline(call))),
            },
            given = running(&mut giving) => {
                if given? {
                    return Ok(End::HandedOver);
                }
                giving = None;
                if !ear.as_ref().is_some_and(Ear::is_heard) {
                    ear = Ear::open(&app.cashier);
                }
            }
        }
    }
}

/// The end of `future`, if there is one.
async fn running<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn called(ear: Option<&Ear>) -> Call {
    match ear {
        Some(ear) => ear.call().await,
        None => std::future::pending().await,
    }
}
