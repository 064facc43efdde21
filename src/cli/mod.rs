//! The command line. Each subcommand is one file: its arguments, and a small function that writes to any writer, so that
//! tests call it without a process. Exit status: 0 done, 1 failed, 2 bad configuration or arguments.

mod agent;
mod approvals;
mod books;
mod cases;
mod cosigner;
mod demo;
mod explain;
mod freeze;
mod granting;
mod healthcheck;
mod init;
mod kill;
mod ledger;
mod operate;
mod operator;
mod policy;
mod probe;
mod recorded;
mod replay;
mod row;
mod serve;
mod session;
mod wallet;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agents::TokensError;
use crate::config::{Config, ConfigError};
use crate::custody::CustodyError;
use crate::ledger::OpenError;
use crate::reload::LoadError;
use crate::telemetry::{self, LogFormat};

/// A forward HTTP proxy that pays for agents.
#[derive(Debug, Parser)]
#[command(
    name = "tollpass",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Start here:
  tollpass demo                                   see it pay, on loopback, with test money
  tollpass init                                   write a configuration and a policy to edit
  tollpass serve --config tollpass.yaml --check   see whether they are right
  tollpass serve --config tollpass.yaml           run the proxy"
)]
pub struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log level or filter, such as debug or tollpass=debug,info; else RUST_LOG.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented configuration and policy to start from.
    Init(init::Args),
    /// See it pay: sellers, proxy and client on loopback, with test money.
    Demo(demo::Args),
    /// Run the proxy.
    Serve(serve::Args),
    /// Run the co-signer: the judge with share 2.
    Cosigner(cosigner::Args),
    /// Ask sellers for a co-signer: a process without a share.
    Probe(probe::Args),
    /// Make a wallet in three shares, and care for it.
    #[command(subcommand)]
    Wallet(Box<wallet::WalletCommand>),
    /// Check a policy, or ask it why.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look at what was bought.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Callers and their tokens.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Stop all payments, or let them go on: the kill switch.
    Kill(kill::Args),
    /// Questions about payments that wait for people.
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Credentials for one run of an agent, with an end and a limit of its own.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Make a token for a program that uses the operator's API.
    Operator(operator::Args),
    /// Ask a running proxy whether it is ready; for container probes.
    Healthcheck(healthcheck::Args),
}

/// `tollpass policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Report every mistake and warning of policy files.
    Check(policy::CheckArgs),
    /// Say what a policy would do with a request, and why.
    Explain(Box<explain::Args>),
    /// Judge the cases beside a policy, NAME.test.yaml.
    Test(cases::Args),
    /// Say what a draft would have changed about recorded decisions.
    Replay(replay::Args),
    /// Print the format of a policy as JSON Schema, for editors.
    #[command(after_help = "Examples:\n  tollpass policy schema > policy.schema.json")]
    Schema,
}

/// `tollpass ledger …`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// List purchases with totals.
    Show(ledger::ShowArgs),
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// The operator's files or arguments are wrong: exit status 2. Empty if everything was said already.
    Config(String),
    /// Anything else: exit status 1.
    Failed(anyhow::Error),
}

/// What a command answers.
pub type Outcome = Result<(), Failure>;

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self::Config(e.to_string())
    }
}

impl From<TokensError> for Failure {
    fn from(e: TokensError) -> Self {
        Self::Config(e.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(e: LoadError) -> Self {
        Self::Config(e.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Failed(e.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(e: anyhow::Error) -> Self {
        // A wrong file stays a wrong file however deep it was found; a ledger that must not be used is one of them.
        if e.is::<ConfigError>() || e.is::<TokensError>() || e.is::<LoadError>() || e.is::<OpenError>() || e.is::<CustodyError>() {
            return Self::Config(format!("{e:#}"));
        }
        Self::Failed(e)
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One-shot commands answer on standard output; their log is for surprises only.
    let quiet =
        (!matches!(cli.command, Command::Serve(_) | Command::Cosigner(_)) && std::env::var_os("RUST_LOG").is_none()).then_some("warn");
    if let Err(error) = telemetry::init(cli.log_format, cli.log_level.as_deref().or(quiet)) {
        eprintln!("tollpass: --log-level: {error}");
        return ExitCode::from(2);
    }
    let mut out = std::io::stdout();
    match run(cli.command, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(text)) => {
            if !text.is_empty() {
                eprintln!("{text}");
            }
            ExitCode::from(2)
        }
        // `tollpass ledger show | head`
        Err(Failure::Failed(e)) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(Failure::Failed(error)) => {
            eprintln!("tollpass: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command, writing its answer to `out`.
///
/// # Errors
/// [`Failure`].
pub fn run(command: Command, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Serve(args) => serve::run(&args, out),
        Command::Cosigner(args) => cosigner::run(&args, out),
        Command::Probe(args) => probe::run(&args, out),
        Command::Wallet(command) => wallet::run(&command, out),
        Command::Policy(PolicyCommand::Check(args)) => policy::run(&args, out),
        Command::Policy(PolicyCommand::Explain(args)) => explain::run(&args, out),
        Command::Policy(PolicyCommand::Test(args)) => cases::run(&args, out),
        Command::Policy(PolicyCommand::Replay(args)) => replay::run(&args, out),
        Command::Policy(PolicyCommand::Schema) => print_json(out, &crate::policy::schema()),
        Command::Ledger(LedgerCommand::Show(args)) => ledger::run(&args, out),
        Command::Agent(command) => agent::run(&command, out),
        Command::Kill(args) => kill::run(&args, out),
        Command::Approvals(command) => approvals::run(&command, out),
        Command::Session(command) => session::run(&command, out),
        Command::Operator(args) => operator::run(&args, out),
        Command::Healthcheck(args) => healthcheck::run(&args, out),
    }
}

/// The configuration file that commands read unless told otherwise.
const CONFIG: &str = "tollpass.yaml";

/// The file `given`, or `tollpass.yaml` here if there is one; its secrets are not needed.
fn config_if_any(given: Option<&Path>) -> Result<Option<Config>, Failure> {
    match given {
        Some(path) => Ok(Some(Config::inspect(path)?)),
        None if Path::new(CONFIG).exists() => Ok(Some(Config::inspect(Path::new(CONFIG))?)),
        None => Ok(None),
    }
}

/// Writes `value` as indented JSON.
fn print_json(out: &mut dyn Write, value: &serde_json::Value) -> Outcome {
    writeln!(out, "{value:#}")?;
    Ok(())
}

#[cfg(test)]
mod tests;
