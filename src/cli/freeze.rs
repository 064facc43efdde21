//! `tollpass agent freeze` and `unfreeze`: one agent pays nobody, or nobody pays one host.

use std::io::Write;
use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use super::operate::{ask, private};
use super::{Outcome, print_json};
use crate::payment::AgentId;

/// Arguments of `agent freeze` and `agent unfreeze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass agent freeze research-bot --why \"it buys the same page again and again\"
  tollpass agent freeze --host api.bureau.example
  tollpass agent unfreeze research-bot

Takes effect at once, for payments alone, and lasts until it is undone, also over a restart. The running proxy does it.")]
pub struct FreezeArgs {
    /// The agent.
    #[arg(required_unless_present = "host", conflicts_with = "host")]
    pub name: Option<AgentId>,
    /// A host instead: nobody pays it.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// One line for the log and for whoever looks later.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// The configuration file; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &FreezeArgs, freeze: bool, out: &mut dyn Write) -> Outcome {
    let path = if freeze { "/freezes" } else { "/freezes/lift" };
    let body = json!({ "agent": args.name.as_ref().map(AgentId::as_str), "host": args.host, "why": args.why });
    let answer = ask(&private(args.config.as_deref())?, Method::POST, path, Some(&body))?;
    if args.json {
        return print_json(out, &answer);
    }
    let what = match (&args.name, &args.host) {
        (Some(agent), _) => format!("agent {agent}"),
        (None, host) => format!("host {}", host.as_deref().unwrap_or_default()),
    };
    let said = match (freeze, answer["changed"].as_bool()) {
        (true, Some(true)) => "is frozen",
        (true, _) => "was frozen already",
        (false, Some(true)) => "is no longer frozen",
        (false, _) => "was not frozen",
    };
    writeln!(out, "{what} {said}")?;
    list(&answer, out)
}

/// Writes who is frozen, and why.
pub(super) fn list(answer: &Value, out: &mut dyn Write) -> Outcome {
    for (kind, word) in [("agents", "agent"), ("hosts", "host")] {
        for (name, stopped) in answer[kind].as_object().into_iter().flatten() {
            let text = |key: &str| stopped[key].as_str().unwrap_or("-").to_owned();
            writeln!(out, "frozen {word} {name} since {} (by {}: {})", text("at"), text("by"), text("why"))?;
        }
    }
    Ok(())
}
