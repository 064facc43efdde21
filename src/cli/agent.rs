//! `tollpass agent token` and `tollpass agent list`.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use rand::TryRng as _;
use zeroize::Zeroizing;

use super::freeze::{self, FreezeArgs};
use super::operate::ask_if_running;
use super::{Failure, Outcome, config_if_any, print_json};
use crate::agents::{Tokens, token_text};
use crate::config::Config;
use crate::payment::AgentId;
use crate::policy::Policy;
use crate::reload::read_policy_sources;

/// `tollpass agent …`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Make a fresh token; it is shown once, only its hash is kept.
    Token(TokenArgs),
    /// List agents: who may call, and whom the policy names.
    List(ListArgs),
    /// Stop an agent's payments, or payments to a host.
    Freeze(FreezeArgs),
    /// Undo that.
    Unfreeze(FreezeArgs),
}

/// Arguments of `agent token`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass agent token research-bot --file secrets/agents.yaml
  tollpass agent token research-bot            (prints the line to add yourself)

A running proxy takes the new file by itself. The newest two tokens of an agent stay live, so that programs can move from
one to the next. The file is written anew: comments above the first entry are kept, others are not.")]
pub struct TokenArgs {
    /// The agent.
    pub name: AgentId,
    /// The token file to add it to.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `agent list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tollpass agent list --config tollpass.yaml")]
pub struct ListArgs {
    /// The configuration file; else tollpass.yaml here.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &AgentCommand, out: &mut dyn Write) -> Outcome {
    match command {
        AgentCommand::Token(args) => token(args, out),
        AgentCommand::List(args) => list(args, out),
        AgentCommand::Freeze(args) => freeze::run(args, true, out),
        AgentCommand::Unfreeze(args) => freeze::run(args, false, out),
    }
}

fn token(args: &TokenArgs, out: &mut dyn Write) -> Outcome {
    let mut random = Zeroizing::new([0_u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *random).context("the operating system gives no random bytes")?;
    let token = Zeroizing::new(token_text(&random));
    let mut tokens = match &args.file {
        Some(path) => read_tokens(path)?,
        None => Tokens::default(),
    };
    let gone = tokens.add(args.name.clone(), &token);
    if let Some(path) = &args.file {
        replace(path, &tokens).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        let file = args.file.as_ref().map(|p| p.display().to_string());
        let line = args.file.is_none().then(|| tokens.to_yaml());
        return print_json(out, &serde_json::json!({ "agent": args.name.as_str(), "token": token.as_str(), "file": file, "add": line }));
    }
    writeln!(out, "{}", token.as_str())?;
    match &args.file {
        Some(path) => {
            let more = if gone > 0 { "; the oldest one is no longer valid" } else { "" };
            eprintln!("added to {}{more}. This is the only time the token is shown.", path.display());
        }
        None => eprintln!("add this to the token file; the token itself is shown only now:\n{}", tokens.to_yaml()),
    }
    eprintln!("use it as the password: HTTP_PROXY=http://{}:TOKEN@127.0.0.1:8402", args.name);
    Ok(())
}

fn read_tokens(path: &Path) -> Result<Tokens, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Tokens::parse(&path.display().to_string(), &text)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Tokens::default()),
        Err(e) => Err(Failure::Config(format!("{}: cannot be read: {e}", path.display()))),
    }
}

/// Writes beside the file and renames over it: a running proxy sees the old or the new one, never half of one.
fn replace(path: &Path, tokens: &Tokens) -> std::io::Result<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let head: String = old.lines().take_while(|l| l.starts_with('#') || l.is_empty()).map(|l| format!("{l}\n")).collect();
    let mode = std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777);
    // A link stays a link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if let Some(folder) = target.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = target.clone().into_os_string();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = file
        .write_all(format!("{head}{}", tokens.to_yaml()).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// One line of `agent list`.
struct Row {
    agent: String,
    tokens: usize,
    default: bool,
    policy: bool,
    frozen: bool,
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Outcome {
    let config = config_if_any(args.config.as_deref())?
        .ok_or_else(|| Failure::Config("there is no tollpass.yaml here: name it with --config FILE".into()))?;
    // Only a running proxy knows, and it may not run.
    let freezes = ask_if_running(&config.private(), http::Method::GET, "/freezes", None)?.unwrap_or_default();
    let rows = rows(&config, &freezes)?;
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| serde_json::json!({ "agent": r.agent, "tokens": r.tokens, "default": r.default, "policy": r.policy, "frozen": r.frozen }))
            .collect();
        return print_json(out, &serde_json::json!(rows));
    }
    writeln!(out, "{:<24} {:>6}  {:<7}  {:<6}  FROZEN", "AGENT", "TOKENS", "DEFAULT", "POLICY")?;
    let yes = |b: bool| if b { "yes" } else { "no" };
    for r in &rows {
        writeln!(out, "{:<24} {:>6}  {:<7}  {:<6}  {}", r.agent, r.tokens, yes(r.default), yes(r.policy), yes(r.frozen))?;
    }
    freeze::list(&freezes, out)
}

fn rows(config: &Config, freezes: &serde_json::Value) -> Result<Vec<Row>, Failure> {
    let sources =
        read_policy_sources(&config.policy).map_err(|e| Failure::Config(format!("{}: cannot be read: {e}", config.policy.display())))?;
    let policy = Policy::parse(&sources, 1).map_err(|e| Failure::Config(e.to_string()))?;
    let tokens = config.agents.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
    let mut names: Vec<&AgentId> = policy.agents().chain(tokens.agents().map(|(a, _)| a)).chain(&config.agents.default).collect();
    names.sort();
    names.dedup();
    let row = |agent: &AgentId| Row {
        agent: agent.to_string(),
        tokens: tokens.agents().find(|(a, _)| *a == agent).map_or(0, |(_, n)| n),
        default: config.agents.default.as_ref() == Some(agent),
        policy: policy.agents().any(|a| a == agent),
        frozen: freezes["agents"].get(agent.as_str()).is_some(),
    };
    Ok(names.into_iter().map(row).collect())
}
