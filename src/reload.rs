//! Hot files: watch, read, parse, swap. A broken file changes nothing but a metric and a log line.
//!
//! Watched are *folders*, never files: a Kubernetes volume swaps its `..data` link and an editor renames over the old file,
//! and after either a watch on the file is dead. Events only say "look again": after a quiet moment everything is read
//! through its path and hashed. A slow poll covers file systems without events; [`Reloader::poke`] is for SIGHUP.
//! One thread and one watcher serve all hot files of the process.

mod signed;
mod source;
mod watch;

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub use signed::{Signing, beside};
use source::{Hot, Recheck};
pub use source::{LoadError, is_cases, read_policy_sources};
use watch::Watch;

use crate::admin::tokens::OperatorTokens;
use crate::agents::Tokens;
use crate::metrics::Metrics;
use crate::payment::Timestamp;
use crate::policy::{Policy, PolicyErrors, Source};

/// Longest wait for quiet while events keep coming.
const PATIENCE: Duration = Duration::from_secs(2);

/// What wakes the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Changed,
    Poked,
    Stop,
}

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Quiet time after the last event.
    pub debounce: Duration,
    /// Interval of the slow poll.
    pub poll: Duration,
    /// Use file system events; without them only the poll notices a change.
    pub events: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self { debounce: Duration::from_millis(250), poll: Duration::from_secs(10), events: true }
    }
}

/// Content to value; the number counts the values of this process, from 1. Errors are complete lines with file, line, column.
pub type Parse<T> = Box<dyn Fn(&[Source], u64) -> Result<T, Vec<String>> + Send>;

/// Which files lie beside these sources.
pub type Beside = Box<dyn Fn(&[Source]) -> Vec<Source> + Send>;

/// Yes, or complete lines that say why not.
pub type Admit<T> = Box<dyn Fn(&T, &[Source], &[Source]) -> Result<(), Vec<String>> + Send>;

/// A last look at what was parsed, with the files beside it: for signatures. Without a yes it does not take effect.
pub struct Gate<T> {
    /// The files beside the sources whose content counts; those that are not there are left out.
    pub beside: Beside,
    /// Value, sources and what is beside them.
    pub admit: Admit<T>,
}

/// Told of every value that took effect.
pub type Loaded<T> = Box<dyn Fn(&Arc<T>) + Send>;

/// A file or folder whose content is parsed into a `T`.
pub struct Target<T> {
    /// Name in the log: `policy`, `tokens`.
    pub name: &'static str,
    /// File or folder.
    pub path: PathBuf,
    /// Content to value.
    pub parse: Parse<T>,
    /// Asked before a value takes effect.
    pub gate: Option<Gate<T>>,
    /// Called after the swap with the new value; also for the first one.
    pub loaded: Loaded<T>,
    /// Called when a newer content is broken.
    pub failed: Box<dyn Fn() + Send>,
}

/// Loads the hot files, then starts the thread that keeps them fresh.
#[derive(Default)]
pub struct Builder {
    hot: Vec<Box<dyn Recheck>>,
    timing: Timing,
}

impl Builder {
    /// No hot files yet.
    pub fn new(timing: Timing) -> Self {
        Self { hot: Vec::new(), timing }
    }

    /// Loads `target` now and keeps it fresh once started.
    ///
    /// # Errors
    /// [`LoadError`]: at start there is no older value to keep.
    pub fn add<T: Send + Sync + 'static>(&mut self, target: Target<T>) -> Result<Arc<ArcSwap<T>>, LoadError> {
        let (hot, current) = Hot::load(target)?;
        self.hot.push(Box::new(hot));
        Ok(current)
    }

    /// The policy file or folder, with its metrics. `loaded` gets every policy that took effect, the first one included. With
    /// `signing` a looser one needs a signature.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn policy(
        &mut self,
        path: &Path,
        signing: Option<Signing>,
        metrics: &Arc<Metrics>,
        loaded: impl Fn(&Arc<Policy>) + Send + 'static,
    ) -> Result<Arc<ArcSwap<Policy>>, LoadError> {
        self.policy_by(Policy::parse, path, signing, metrics, loaded)
    }

    /// The same for a co-signer, whose policy has keys of its own and believes less (S4).
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn cosigner_policy(
        &mut self,
        path: &Path,
        signing: Option<Signing>,
        metrics: &Arc<Metrics>,
        loaded: impl Fn(&Arc<Policy>) + Send + 'static,
    ) -> Result<Arc<ArcSwap<Policy>>, LoadError> {
        self.policy_by(Policy::parse_for_cosigner, path, signing.map(Signing::of_cosigner), metrics, loaded)
    }

    fn policy_by(
        &mut self,
        parse: fn(&[Source], u64) -> Result<Policy, PolicyErrors>,
        path: &Path,
        signing: Option<Signing>,
        metrics: &Arc<Metrics>,
        loaded: impl Fn(&Arc<Policy>) + Send + 'static,
    ) -> Result<Arc<ArcSwap<Policy>>, LoadError> {
        let (ok, bad) = (metrics.clone(), metrics.clone());
        let gate = signing.map(|signing| {
            let (near, own) = (path.to_path_buf(), path.to_path_buf());
            Gate {
                beside: Box::new(move |sources| signed::beside(&near, sources)),
                admit: Box::new(move |policy, sources, beside| {
                    let admitted = signing.admits(&own, policy, sources, beside, wall_clock())?;
                    signing.accept(admitted)
                }),
            }
        });
        self.add(Target {
            name: "policy",
            path: path.to_path_buf(),
            parse: Box::new(move |sources, epoch| parse(sources, epoch).map_err(|e| e.0.iter().map(ToString::to_string).collect())),
            gate,
            loaded: Box::new(move |policy| {
                for warning in policy.warnings() {
                    tracing::warn!("{warning}");
                }
                ok.set_agents(&policy.agents().cloned().collect::<Vec<_>>());
                ok.policy_loaded(policy.digest(), wall_clock());
                loaded(policy);
            }),
            failed: Box::new(move || bad.policy_failed()),
        })
    }

    /// A draft that judges along. One that does not load is a line in the log and a metric, never a reason not to start.
    pub fn shadow(&mut self, path: &Path, metrics: &Arc<Metrics>) -> Arc<ArcSwap<Option<Arc<Policy>>>> {
        let (ok, bad) = (metrics.clone(), metrics.clone());
        let parse = |sources: &[Source], epoch| Policy::parse(sources, epoch).map(|policy| Some(Arc::new(policy)));
        let (hot, current) = Hot::load_or(
            Target {
                name: "policy_shadow",
                path: path.to_path_buf(),
                parse: Box::new(move |sources, epoch| parse(sources, epoch).map_err(|e| e.0.iter().map(ToString::to_string).collect())),
                // A draft pays nothing, so nobody has to sign it.
                gate: None,
                loaded: Box::new(move |_| ok.shadow_loaded(true)),
                failed: Box::new(move || bad.shadow_loaded(false)),
            },
            None,
        );
        self.hot.push(Box::new(hot));
        current
    }

    /// The token file.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn tokens(&mut self, path: &Path) -> Result<Arc<ArcSwap<Tokens>>, LoadError> {
        self.add(Target {
            name: "tokens",
            path: path.to_path_buf(),
            parse: Box::new(|sources, _| {
                let source = sources.first().ok_or_else(|| vec!["no file".to_owned()])?;
                Tokens::parse(&source.name, &source.text).map_err(|e| e.0.iter().map(ToString::to_string).collect())
            }),
            gate: None,
            loaded: Box::new(|_| {}),
            failed: Box::new(|| {}),
        })
    }

    /// The operators' token file.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn operators(&mut self, path: &Path) -> Result<Arc<ArcSwap<OperatorTokens>>, LoadError> {
        let file = path.to_path_buf();
        self.add(Target {
            name: "operators",
            path: path.to_path_buf(),
            parse: Box::new(move |sources, _| {
                let source = sources.first().ok_or_else(|| vec!["no file".to_owned()])?;
                let tokens = OperatorTokens::parse(&source.name, &source.text);
                let tokens = tokens.map_err(|e| e.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
                let open = std::fs::metadata(&file).is_ok_and(|about| about.mode() & 0o007 != 0);
                if open && tokens.has_secrets() {
                    return Err(vec![format!(
                        "{0} has `totp` in it and is open to every user of this machine: run chmod 0400 {0}",
                        file.display()
                    )]);
                }
                Ok(tokens)
            }),
            gate: None,
            loaded: Box::new(|_| {}),
            failed: Box::new(|| {}),
        })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// Only if no thread can be made; without file system events the poll does the work, and the log says so.
    pub fn start(self) -> std::io::Result<Reloader> {
        let (sender, receiver) = channel();
        let Self { mut hot, timing } = self;
        let mut watch = Watch::start(timing.events.then(|| sender.clone()));
        // Folders first, in every round: what changes after this point makes a new event.
        let mut look = move |talk: bool| {
            watch.follow(hot.iter().map(|h| h.path()));
            hot.iter_mut().for_each(|file| file.recheck(talk));
        };
        // The first look catches what changed between loading and watching.
        look(false);
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            loop {
                match receiver.recv_timeout(timing.poll) {
                    Ok(Signal::Changed) => match settle(&receiver, timing.debounce) {
                        Signal::Stop => return,
                        signal => look(signal == Signal::Poked),
                    },
                    Ok(Signal::Poked) => look(true),
                    Err(RecvTimeoutError::Timeout) => look(false),
                    Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Reloader { sender, thread: Some(thread) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hot.iter().map(|h| h.path())).finish()
    }
}

/// Waits until events pause: a swap makes several, and the first may be seen while links are missing.
fn settle(receiver: &std::sync::mpsc::Receiver<Signal>, debounce: Duration) -> Signal {
    let started = Instant::now();
    let mut signal = Signal::Changed;
    while started.elapsed() < PATIENCE {
        match receiver.recv_timeout(debounce) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Signal::Stop,
            Ok(Signal::Poked) => signal = Signal::Poked,
            Ok(Signal::Changed) => {}
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    signal
}

fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Keeps hot files fresh until dropped.
#[derive(Debug)]
pub struct Reloader {
    sender: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Looks at every hot file at once and logs what it found: for SIGHUP.
    pub fn poke(&self) {
        // The thread lives as long as we do.
        let _ = self.sender.send(Signal::Poked);
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        let _ = self.sender.send(Signal::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the reload thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
