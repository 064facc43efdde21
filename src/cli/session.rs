//! `tollpass session`: credentials for one run of an agent (M2.4). The running proxy does the work.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::operate::{ask, private};
use super::{Outcome, print_json};
use crate::payment::{AgentId, SessionName};

/// `tollpass session …`
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Open a session and print its credentials, which are shown only now.
    Open(OpenArgs),
    /// List the sessions that are open.
    List(ListArgs),
    /// End a session: its credentials are worth nothing from the next request on.
    Close(CloseArgs),
}

/// Arguments of `session open`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass session open research-bot --expires 30m --max 5.00
  HTTPS_PROXY=$(tollpass session open research-bot) python agent.py

A name is used once: when its session has ended it never pays again. With `sessions: { required: true }` in the policy an agent
pays in no other way.")]
pub struct OpenArgs {
    /// The agent.
    pub agent: AgentId,
    /// Its name; made up otherwise.
    #[arg(long)]
    pub name: Option<SessionName>,
    /// How long it lives, such as 30m; the policy's length otherwise.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// The most it may spend, US dollars, such as 5.00; counts beside the policy's limits.
    #[arg(long, value_name = "USD")]
    pub max: Option<String>,
    /// The configuration file; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `session list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass session list --json")]
pub struct ListArgs {
    /// The configuration file; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `session close`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass session close research-bot run-42")]
pub struct CloseArgs {
    /// The agent.
    pub agent: AgentId,
    /// The session's name.
    pub name: SessionName,
    /// The configuration file; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &SessionCommand, out: &mut dyn Write) -> Outcome {
    match command {
        SessionCommand::Open(args) => open(args, out),
        SessionCommand::List(args) => list(args, out),
        SessionCommand::Close(args) => close(args, out),
    }
}

fn open(args: &OpenArgs, out: &mut dyn Write) -> Outcome {
    let name = args.name.as_ref().map(SessionName::as_str);
    let body = json!({ "agent": args.agent.as_str(), "name": name, "expires": args.expires, "max": args.max });
    let answer = ask(&private(args.config.as_deref())?, Method::POST, "/sessions", Some(&body))?;
    if args.json {
        return print_json(out, &answer);
    }
    // The address alone on standard output, so that a shell can hand it on.
    writeln!(out, "{}", answer["proxy_url"].as_str().unwrap_or_default())?;
    eprintln!("session {} of {} until {}", text(&answer, "name"), args.agent, text(&answer, "expires_at"));
    Ok(())
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Outcome {
    let answer = ask(&private(args.config.as_deref())?, Method::GET, "/sessions", None)?;
    if args.json {
        return print_json(out, &answer);
    }
    for session in answer["sessions"].as_array().into_iter().flatten() {
        let opened = if session["issued"] == true { "issued" } else { "self-made" };
        let (agent, name, until, max) =
            (text(session, "agent"), text(session, "name"), text(session, "expires_at"), text(session, "max_usd"));
        writeln!(out, "{agent}+{name}  {opened}  until {until}  max {max}")?;
    }
    Ok(())
}

fn close(args: &CloseArgs, out: &mut dyn Write) -> Outcome {
    let body = json!({ "agent": args.agent.as_str(), "name": args.name.as_str() });
    let answer = ask(&private(args.config.as_deref())?, Method::POST, "/sessions/close", Some(&body))?;
    if args.json {
        return print_json(out, &answer);
    }
    let said = if answer["changed"] == true { "is closed" } else { "was closed already" };
    Ok(writeln!(out, "session {} of {} {said}", args.name, args.agent)?)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("-").to_owned()
}
