//! `tollpass approvals`: the questions that wait for people, and their answers.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::operate::{ask, private};
use super::{Failure, Outcome, print_json};

/// `tollpass approvals …`
#[derive(Debug, Subcommand)]
pub enum ApprovalsCommand {
    /// List the questions, with what was said.
    List(ListArgs),
    /// Show one question, whole.
    Show(OneArgs),
    /// Say yes to one payment, or to later ones like it within bounds.
    Approve(ApproveArgs),
    /// Say no.
    Deny(OneArgs),
    /// List the yeses that were given in advance.
    Mandates(ListArgs),
    /// Take one of those back.
    Revoke(OneArgs),
}

/// Arguments of `approvals list` and `approvals mandates`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals list
  tollpass approvals mandates --json")]
pub struct ListArgs {
    /// The configuration file of the proxy; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of what is done with one question or mandate.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals show 8f0c
  tollpass approvals deny 8f0c
  tollpass approvals revoke 71aa

An id may be shortened as long as it names one.")]
pub struct OneArgs {
    /// Its id.
    pub id: String,
    /// The configuration file of the proxy; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `approvals approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals approve 8f0c
  tollpass approvals approve 8f0c --remember --max 0.10 --total 5 --until 2026-12-31T00:00:00Z

An id may be shortened as long as it names one. Over the state's socket all words count as those of one person, `socket`: a quorum
of more needs people with tokens of their own (`admin.tokens`), who call the same API.")]
pub struct ApproveArgs {
    /// The question's id.
    pub id: String,
    /// And to later ones of the same agent, host and payee, within these bounds.
    #[arg(long, requires_all = ["max", "total", "until"])]
    pub remember: bool,
    /// The most for one payment, US dollars.
    #[arg(long, value_name = "USD", requires = "remember")]
    pub max: Option<String>,
    /// The most for all of them, US dollars.
    #[arg(long, value_name = "USD", requires = "remember")]
    pub total: Option<String>,
    /// Until when.
    #[arg(long, value_name = "RFC 3339", requires = "remember")]
    pub until: Option<String>,
    /// The configuration file of the proxy; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &ApprovalsCommand, out: &mut dyn Write) -> Outcome {
    match command {
        ApprovalsCommand::List(args) => list(args, "approvals", table, out),
        ApprovalsCommand::Mandates(args) => list(args, "mandates", mandates, out),
        ApprovalsCommand::Show(args) => {
            let found = one(args.config.as_deref(), "approvals", &args.id)?.1;
            if args.json { print_json(out, &found) } else { show(&found, out) }
        }
        ApprovalsCommand::Approve(args) => approve(args, out),
        ApprovalsCommand::Deny(args) => {
            let (private, found) = one(args.config.as_deref(), "approvals", &args.id)?;
            let answered = post(&private, &format!("/approvals/{}/deny", text(&found["id"])), &json!({}))?;
            if args.json { print_json(out, &answered) } else { show(&answered, out) }
        }
        ApprovalsCommand::Revoke(args) => {
            let (private, found) = one(args.config.as_deref(), "mandates", &args.id)?;
            let id = text(&found["id"]);
            let done = post(&private, &format!("/mandates/{id}/revoke"), &json!({}))?;
            if args.json { print_json(out, &done) } else { Ok(writeln!(out, "revoked {id}")?) }
        }
    }
}

fn post(private: &Path, path: &str, body: &Value) -> Result<Value, Failure> {
    ask(private, Method::POST, path, Some(body))
}

fn list(args: &ListArgs, what: &str, show: fn(&Value, &mut dyn Write) -> Outcome, out: &mut dyn Write) -> Outcome {
    let all = ask(&private(args.config.as_deref())?, Method::GET, &format!("/{what}"), None)?;
    if args.json { print_json(out, &all[what]) } else { show(&all[what], out) }
}

fn one(config: Option<&Path>, what: &str, id: &str) -> Result<(PathBuf, Value), Failure> {
    let private = private(config)?;
    let all = ask(&private, Method::GET, &format!("/{what}"), None)?;
    Ok((private, find(&all[what], id)?))
}

fn approve(args: &ApproveArgs, out: &mut dyn Write) -> Outcome {
    let (private, found) = one(args.config.as_deref(), "approvals", &args.id)?;
    let id = text(&found["id"]);
    let mut answered = post(&private, &format!("/approvals/{id}/approve"), &json!({}))?;
    if args.remember {
        let bounds = json!({ "max_usd": args.max, "total_usd": args.total, "until": args.until });
        answered["mandate"] = post(&private, &format!("/approvals/{id}/remember"), &bounds)?;
    }
    if args.json {
        return print_json(out, &answered);
    }
    show(&answered, out)?;
    if args.remember {
        writeln!(out, "remembered as {}", text(&answered["mandate"]["id"]))?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// The one whose id begins so.
fn find(list: &Value, id: &str) -> Result<Value, Failure> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found = all.iter().filter(|row| !id.is_empty() && row["id"].as_str().is_some_and(|known| known.starts_with(id)));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(Failure::Failed(anyhow::anyhow!("there is none whose id begins with `{id}`"))),
        (Some(_), Some(_)) => Err(Failure::Failed(anyhow::anyhow!("`{id}` begins the id of several: write more of it"))),
    }
}

fn table(list: &Value, out: &mut dyn Write) -> Outcome {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return Ok(writeln!(out, "nobody is asked anything")?);
    }
    writeln!(out, "{:<14}  {:<8}  {:<16}  {:>12}  {:<32}  {:<20}  why", "id", "state", "agent", "usd", "host", "until")?;
    for row in rows {
        let cell = |key: &str| text(&row[key]);
        let id: String = cell("id").chars().take(12).collect();
        writeln!(
            out,
            "{id:<14}  {:<8}  {:<16}  {:>12}  {:<32}  {:<20}  {}",
            cell("state"),
            cell("agent"),
            cell("usd"),
            cell("host"),
            cell("expires_at"),
            why(row)
        )?;
    }
    Ok(())
}

fn why(row: &Value) -> String {
    let asks = row["asks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |ask: &Value| {
        let groups: Vec<&str> = ask["any_of"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{} asks {}", text(&ask["rule"]), groups.join(" or "))
    };
    asks.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn show(row: &Value, out: &mut dyn Write) -> Outcome {
    let facts =
        ["id", "state", "agent", "session", "method", "host", "usd", "asset", "network", "payee", "entry", "opened_at", "expires_at"];
    for name in facts {
        writeln!(out, "{name:<11} {}", text(&row[name]))?;
    }
    writeln!(out, "{:<11} {}", "why", why(row))?;
    for vote in row["votes"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let word = if vote["yes"].as_bool().unwrap_or(false) { "yes" } else { "no" };
        writeln!(out, "{word:<11} {} at {}", text(&vote["who"]), text(&vote["at"]))?;
    }
    Ok(())
}

fn mandates(list: &Value, out: &mut dyn Write) -> Outcome {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return Ok(writeln!(out, "no yes was given in advance")?);
    }
    for row in rows {
        let cell = |key: &str| text(&row[key]);
        writeln!(
            out,
            "{}  {} at {} to {}: up to {} USD each, {} of {} USD used, until {} (by {})",
            cell("id"),
            cell("agent"),
            cell("host"),
            cell("payee"),
            cell("max_usd"),
            cell("used_usd"),
            cell("total_usd"),
            cell("until"),
            cell("by")
        )?;
    }
    Ok(())
}
