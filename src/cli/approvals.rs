//! `tollpass approvals`: the questions that wait for people, and their answers.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::operate::{Reach, Way};
use super::{Failure, Outcome, granting, print_json};

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
    /// Make an approver's key, whose grants a co-signer takes; or show its public half.
    Key(granting::KeyArgs),
}

/// Arguments of `approvals list` and `approvals mandates`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals list
  tollpass approvals mandates --json
  tollpass approvals list --server https://ops.example.com --token file:me.token")]
pub struct ListArgs {
    /// How to reach the proxy.
    #[command(flatten)]
    pub reach: Reach,
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
    /// How to reach the proxy.
    #[command(flatten)]
    pub reach: Reach,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `approvals approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals approve 8f0c
  tollpass approvals approve 8f0c --token file:me.token --totp
  tollpass approvals approve 8f0c --server https://ops.example.com --token env:MY_TOKEN --key approver.pem --exceeds caps.day
  tollpass approvals approve 8f0c --remember --max 0.10 --total 5 --until 2026-12-31T00:00:00Z

An id may be shortened as long as it names one. Without --token all words over the state's socket count as those of one person,
`socket`, who has no second factor: a quorum and `second_factor` need people with tokens of their own (`admin.tokens`).

With --key the yes also reaches the co-signer: a grant over exactly this payment, signed here, that lifts the limits of the
co-signer's policy which --exceeds names as its refusals do (`caps.day`, `entry:ID.max`).")]
pub struct ApproveArgs {
    /// The question's id.
    pub id: String,
    /// The code of your authenticator, or nothing to be asked for it.
    #[arg(long, value_name = "CODE", num_args = 0..=1)]
    pub totp: Option<Option<String>>,
    /// Sign a grant for the co-signer with the key in this file.
    #[arg(long, value_name = "FILE", requires = "exceeds")]
    pub key: Option<PathBuf>,
    /// A limit of the co-signer that the grant lifts. Give it once for each.
    #[arg(long = "exceeds", value_name = "LIMIT", requires = "key")]
    pub exceeds: Vec<String>,
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
    /// How to reach the proxy.
    #[command(flatten)]
    pub reach: Reach,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &ApprovalsCommand, out: &mut dyn Write) -> Outcome {
    match command {
        ApprovalsCommand::List(args) => list(args, "approvals", table, out),
        ApprovalsCommand::Mandates(args) => list(args, "mandates", mandates, out),
        ApprovalsCommand::Show(args) => {
            let found = one(&args.reach.way()?, "approvals", &args.id)?;
            if args.json { print_json(out, &found) } else { show(&found, out) }
        }
        ApprovalsCommand::Approve(args) => approve(args, out),
        ApprovalsCommand::Deny(args) => {
            let way = args.reach.way()?;
            let found = one(&way, "approvals", &args.id)?;
            let answered = post(&way, &format!("/approvals/{}/deny", text(&found["id"])), &json!({}))?;
            if args.json { print_json(out, &answered) } else { show(&answered, out) }
        }
        ApprovalsCommand::Revoke(args) => {
            let way = args.reach.way()?;
            let id = text(&one(&way, "mandates", &args.id)?["id"]);
            let done = post(&way, &format!("/mandates/{id}/revoke"), &json!({}))?;
            if args.json { print_json(out, &done) } else { Ok(writeln!(out, "revoked {id}")?) }
        }
        ApprovalsCommand::Key(args) => granting::key(args, out),
    }
}

fn post(way: &Way, path: &str, body: &Value) -> Result<Value, Failure> {
    way.ask(Method::POST, path, Some(body))
}

fn list(args: &ListArgs, what: &str, show: fn(&Value, &mut dyn Write) -> Outcome, out: &mut dyn Write) -> Outcome {
    let all = args.reach.way()?.ask(Method::GET, &format!("/{what}"), None)?;
    if args.json { print_json(out, &all[what]) } else { show(&all[what], out) }
}

fn one(way: &Way, what: &str, id: &str) -> Result<Value, Failure> {
    find(&way.ask(Method::GET, &format!("/{what}"), None)?[what], id)
}

fn approve(args: &ApproveArgs, out: &mut dyn Write) -> Outcome {
    let way = args.reach.way()?;
    let found = one(&way, "approvals", &args.id)?;
    let id = text(&found["id"]);
    // The grant first: the yes may be used the moment it is there.
    let grant = args.key.as_deref().map(|key| granting::sign(&found, key, &args.exceeds)).transpose()?;
    let code = args.totp.as_ref().map(|code| code_of(code.as_deref())).transpose()?;
    let code = code.as_ref().map(|code| code.as_str());
    if let Some(grant) = grant {
        post(&way, &format!("/approvals/{id}/grant"), &json!({ "grant": grant }))?;
    }
    let mut answered = post(&way, &format!("/approvals/{id}/approve"), &json!({ "code": code }))?;
    if args.remember {
        let bounds = json!({ "max_usd": args.max, "total_usd": args.total, "until": args.until, "code": code });
        answered["mandate"] = post(&way, &format!("/approvals/{id}/remember"), &bounds)?;
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

/// The code that was given, or is asked for now.
fn code_of(given: Option<&str>) -> Result<Zeroizing<String>, Failure> {
    if let Some(code) = given {
        return Ok(Zeroizing::new(code.trim().to_owned()));
    }
    eprint!("code of your authenticator: ");
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line)?;
    Ok(Zeroizing::new(line.trim().to_owned()))
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
    let facts = [
        "id",
        "state",
        "agent",
        "session",
        "method",
        "host",
        "usd",
        "asset",
        "network",
        "token",
        "payee",
        "entry",
        "opened_at",
        "expires_at",
    ];
    for name in facts {
        writeln!(out, "{name:<11} {}", text(&row[name]))?;
    }
    writeln!(out, "{:<11} {}", "why", why(row))?;
    for vote in row["votes"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let word = if vote["yes"].as_bool().unwrap_or(false) { "yes" } else { "no" };
        let code = if vote["code"].as_bool().unwrap_or(false) { ", with a code" } else { "" };
        writeln!(out, "{word:<11} {} at {}{code}", text(&vote["who"]), text(&vote["at"]))?;
    }
    for who in row["grants"].as_array().map(Vec::as_slice).unwrap_or_default() {
        writeln!(out, "{:<11} for the co-signer, by {}", "grant", text(who))?;
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
