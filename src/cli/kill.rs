//! `tollpass kill`: nothing is signed any more, until a person says so. Works on a proxy and on a co-signer, running or not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use http::Method;
use serde_json::{Value, json};

use super::operate::ask_if_running;
use super::{CONFIG, Failure, Outcome, print_json};
use crate::app::in_flight_of;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::payment::Timestamp;
use crate::policy::Stopped;
use crate::stops::{KILL, kill_in, revive_in};
use crate::{clock, cosigner};

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass kill on --why \"bills we cannot explain\"
  tollpass kill status --json
  tollpass kill off
  tollpass kill on --config /etc/tollpass/cosigner.yaml     (a co-signer has a switch of its own)
  touch /var/lib/tollpass/private/kill                      (the same without this program)

Within a second nothing new is signed; a restart changes nothing. What was signed before cannot be called back: the purchases
that a seller may still use are listed. Requests that cost nothing go on.")]
pub struct Args {
    /// What to do.
    #[arg(value_enum)]
    pub what: What,
    /// The configuration file of the proxy or of the co-signer; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One line for the log and for whoever looks later.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `on`, `off` or `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Sign nothing.
    On,
    /// Sign again.
    Off,
    /// Say how it stands.
    Status,
}

/// How long the file may take to be seen, and looked at again.
const SEEN: Duration = Duration::from_secs(2);

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let private = private(args.config.as_deref().unwrap_or(Path::new(CONFIG)))?;
    if args.why.as_ref().is_some_and(|why| why.len() > 200 || why.chars().any(char::is_control)) {
        return Err(Failure::Config("--why: write one line of at most 200 bytes".into()));
    }
    let (method, body) = match args.what {
        What::On => (Method::POST, Some(json!({ "on": true, "why": args.why }))),
        What::Off => (Method::POST, Some(json!({ "on": false }))),
        What::Status => (Method::GET, None),
    };
    let status = match ask_if_running(&private, method, "/kill", body.as_ref()) {
        Ok(Some(status)) => status,
        // A process that answers nonsense, or not at all, must not keep the switch from being turned on.
        Ok(None) => by_file(&private, args)?,
        Err(Failure::Failed(error)) if args.what == What::On => {
            eprintln!("{error:#}: writing the file");
            by_file(&private, args)?
        }
        Err(error) => return Err(error),
    };
    if args.json {
        return print_json(out, &status);
    }
    show(&status, out)
}

/// The private folder of a proxy or a co-signer.
fn private(file: &Path) -> Result<PathBuf, Failure> {
    match Config::inspect(file) {
        Ok(config) => Ok(config.private()),
        Err(proxy) => match cosigner::config::Config::inspect(file) {
            Ok(config) => Ok(config.private()),
            // The co-signer's file has keys of its own, so whichever is nearer to right is what was meant.
            Err(cosigner) if cosigner.0.len() < proxy.0.len() => Err(cosigner.into()),
            Err(_) => Err(proxy.into()),
        },
    }
}

/// Without a process that answers: the file is the switch, and a process that runs sees it.
fn by_file(private: &Path, args: &Args) -> Result<Value, Failure> {
    let wall = clock::read().wall;
    match args.what {
        What::On => {
            let why = args.why.as_deref().unwrap_or("stopped by a person").into();
            std::fs::create_dir_all(private)?;
            kill_in(private, &Stopped { by: "operator".into(), why, at: wall })
                .with_context(|| format!("cannot write {}", private.join(KILL).display()))?;
            // Whoever runs has seen it when this returns.
            std::thread::sleep(crate::stops::LOOK);
        }
        What::Off => drop(revive_in(private).with_context(|| format!("cannot remove {}", private.join(KILL).display()))?),
        What::Status => {}
    }
    let on = private.join(KILL).symlink_metadata().is_ok();
    Ok(json!({ "on": on, "stopped": null, "in_flight": in_flight(private, wall)? }))
}

/// As the ledger on the disk says; a process may be writing to it.
fn in_flight(private: &Path, now: Timestamp) -> Result<Value, Failure> {
    if private.join("ledger.db").symlink_metadata().is_err() {
        return Ok(json!([]));
    }
    let until = Instant::now() + SEEN;
    let all = loop {
        match Ledger::list(private) {
            Ok(all) => break all,
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(Failure::Failed(error.into())),
        }
    };
    Ok(in_flight_of(all.iter(), now))
}

fn show(status: &Value, out: &mut dyn Write) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let on = status["on"].as_bool().unwrap_or(true);
    match (on, status["stopped"].is_object()) {
        (true, true) => {
            let by = &status["stopped"];
            writeln!(out, "the kill switch is ON since {} (by {}: {})", text(&by["at"]), text(&by["by"]), text(&by["why"]))?;
        }
        (true, false) => writeln!(out, "the kill switch is ON")?,
        (false, _) => writeln!(out, "the kill switch is off")?,
    }
    match status["in_flight"].as_array().map(Vec::as_slice) {
        None => writeln!(out, "another process has the ledger: ask it what is under way")?,
        Some([]) => writeln!(out, "no payment is under way")?,
        Some(list) => {
            writeln!(out, "{} payments that a seller may still use:", list.len())?;
            for p in list {
                let cell = |key: &str| text(&p[key]);
                writeln!(
                    out,
                    "  {}  {}  {}  {} USD  {}  {}",
                    cell("at"),
                    cell("agent"),
                    cell("host"),
                    cell("usd"),
                    cell("state"),
                    cell("purchase")
                )?;
            }
        }
    }
    Ok(())
}
