//! `tollpass approvals`: the questions that wait for people, and their answers.

use std::io::Write;
use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use super::operate::{ask, private};
use super::{Outcome, print_json};

/// Arguments of `approvals`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals list
  tollpass approvals approve 8f0c…
  tollpass approvals approve 8f0c… --remember --max 0.10 --total 5 --until 2026-12-31T00:00:00Z
  tollpass approvals deny 8f0c…
  tollpass approvals mandates
  tollpass approvals revoke 71aa…

An id may be shortened as long as it names one. Over the state's socket all words count as those of one person, `socket`: a quorum
of more needs people with tokens of their own (`admin.tokens`), who call the same API.")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
    /// The configuration file of the proxy; else tollpass.yaml here.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Questions, with what was said.
    List,
    /// One question, whole.
    Show {
        /// Its id.
        id: String,
    },
    /// Say yes to one payment.
    Approve {
        /// The question's id.
        id: String,
        /// And to later ones like it, within these bounds.
        #[arg(long, requires_all = ["max", "total", "until"])]
        remember: bool,
        /// The most for one payment, US dollars.
        #[arg(long, value_name = "USD", requires = "remember")]
        max: Option<String>,
        /// The most for all of them, US dollars.
        #[arg(long, value_name = "USD", requires = "remember")]
        total: Option<String>,
        /// Until when, such as 2026-12-31T00:00:00Z.
        #[arg(long, value_name = "RFC 3339", requires = "remember")]
        until: Option<String>,
    },
    /// Say no.
    Deny {
        /// The question's id.
        id: String,
    },
    /// Yeses that were given in advance.
    Mandates,
    /// Take one of those back.
    Revoke {
        /// The mandate's id.
        id: String,
    },
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let private = private(args.config.as_deref())?;
    let get = |path: &str| ask(&private, Method::GET, path, None);
    let post = |path: String, body: Value| ask(&private, Method::POST, &path, Some(&body));
    let one = |list: &str, id: &str| find(&get(&format!("/{list}"))?[list], id);
    match &args.what {
        What::List => {
            let all = get("/approvals")?;
            if args.json { print_json(out, &all["approvals"]) } else { table(&all["approvals"], out) }
        }
        What::Show { id } => {
            let found = one("approvals", id)?;
            if args.json { print_json(out, &found) } else { show(&found, out) }
        }
        What::Approve { id, remember, max, total, until } => {
            let id = text(&one("approvals", id)?["id"]);
            let mut answered = post(format!("/approvals/{id}/approve"), json!({}))?;
            if *remember {
                let bounds = json!({ "max_usd": max, "total_usd": total, "until": until });
                answered["mandate"] = post(format!("/approvals/{id}/remember"), bounds)?;
            }
            if args.json {
                return print_json(out, &answered);
            }
            show(&answered, out)?;
            if *remember {
                writeln!(out, "remembered as {}", text(&answered["mandate"]["id"]))?;
            }
            Ok(())
        }
        What::Deny { id } => {
            let id = text(&one("approvals", id)?["id"]);
            let answered = post(format!("/approvals/{id}/deny"), json!({}))?;
            if args.json { print_json(out, &answered) } else { show(&answered, out) }
        }
        What::Mandates => {
            let all = get("/mandates")?;
            if args.json { print_json(out, &all["mandates"]) } else { mandates(&all["mandates"], out) }
        }
        What::Revoke { id } => {
            let id = text(&one("mandates", id)?["id"]);
            let done = post(format!("/mandates/{id}/revoke"), json!({}))?;
            if args.json { print_json(out, &done) } else { Ok(writeln!(out, "revoked {id}")?) }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// The one whose id begins so.
fn find(list: &Value, id: &str) -> Result<Value, super::Failure> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found = all.iter().filter(|row| !id.is_empty() && row["id"].as_str().is_some_and(|known| known.starts_with(id)));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(super::Failure::Failed(anyhow::anyhow!("there is none whose id begins with `{id}`"))),
        (Some(_), Some(_)) => Err(super::Failure::Failed(anyhow::anyhow!("`{id}` begins the id of several: write more of it"))),
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
    let facts = ["id", "state", "agent", "session", "method", "host", "usd", "asset", "network", "payee", "entry", "opened_at", "expires_at"];
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
