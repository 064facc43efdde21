//! `tollpass wallet …`: making a wallet in three shares, and care for it (S6, S7).

mod create;
mod enroll;
mod identity;
mod one_host;
mod recover;
mod refresh;
mod reopen;
mod revoke;
mod show;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Outcome};
use crate::ceremony::CeremonyError;
use crate::ceremony::worker::Which;
use crate::config::Secret;
use crate::custody::{CustodyError, Unseal};
use crate::mpc::{Party, Wallet};

/// `tollpass wallet …`
#[derive(Debug, Subcommand)]
pub enum WalletCommand {
    /// Make a party's identity and show the fingerprint that the others compare.
    Identity(identity::Args),
    /// Make a wallet: a key that never exists, in three shares of which two sign.
    Create(Box<create::Args>),
    /// Show what is public about a share.
    Show(show::Args),
    /// Make new shares of the same key, so that old ones are worth nothing.
    Refresh(Box<refresh::Args>),
    /// Move an asset to the recovery address with two shares, one of them the cold one.
    Recover(Box<recover::Args>),
    /// Tie a share holder's key to agents: issue a one-time token, or redeem one.
    Enroll(enroll::Args),
    /// Take an identity's rights away; counts from its next request on.
    Revoke(revoke::Args),
    /// A new process that tries a share; started by a ceremony.
    #[command(hide = true)]
    Reopen(reopen::Args),
}

pub(super) fn run(command: &WalletCommand, out: &mut dyn Write) -> Outcome {
    use WalletCommand::{Create, Identity, Recover, Refresh, Reopen};
    if matches!(command, Create(_) | Identity(_) | Recover(_) | Refresh(_) | Reopen(_)) {
        // Shares and identities will be in memory (S8).
        crate::state::harden();
    }
    match command {
        WalletCommand::Identity(args) => identity::run(args, out),
        WalletCommand::Create(args) => create::run(args, out),
        WalletCommand::Show(args) => show::run(args, out),
        WalletCommand::Refresh(args) => refresh::run(args, out),
        WalletCommand::Recover(args) => recover::run(args, out),
        WalletCommand::Enroll(args) => enroll::run(args, out),
        WalletCommand::Revoke(args) => revoke::run(args, out),
        WalletCommand::Reopen(args) => reopen::run(args),
    }
}

/// What every user of the library is told (S10).
const UNAUDITED: &str = "note: the cryptography is the crate dkls23, which no third party has audited. On main networks keep little in \
                         this wallet: a co-signer serves one with more than 100 USD only with `accept_unaudited: true`.";

/// Where the passphrase of a share comes from, and as the argument that says so again to a new process.
#[derive(Clone, Debug)]
struct Opener {
    unseal: Unseal,
    given: String,
}

fn opener(text: &str) -> Result<Opener, String> {
    let form = "the passphrase is never an argument itself: write env:NAME, file:PATH or exec:PROGRAM ARGUMENTS";
    let unseal = match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => match std::env::var(name) {
            Ok(value) if !value.is_empty() => Unseal::Value(Secret::new(value)),
            _ => return Err(format!("the environment variable {name} is not set")),
        },
        Some(("file", path)) if !path.is_empty() => Unseal::File(PathBuf::from(path)),
        Some(("exec", command)) if !command.trim().is_empty() => Unseal::Exec(command.split_whitespace().map(str::to_owned).collect()),
        _ => return Err(form.into()),
    };
    Ok(Opener { unseal, given: text.to_owned() })
}

fn party(text: &str) -> Result<Party, String> {
    Party::parse(text).ok_or_else(|| "write sidecar, cosigner or cold".into())
}

/// This program once more, on a share.
fn reopening(folder: &Path, opener: &Opener, which: Which) -> Process {
    let mut process = Process::new(std::env::current_exe().unwrap_or_else(|_| "tollpass".into()));
    process.args(["wallet", "reopen", "--unseal", &opener.given, "--share"]).arg(folder);
    match which {
        Which::Current => {}
        Which::Staged => drop(process.arg("--staged")),
        Which::Care => drop(process.arg("--care")),
    }
    // Failpoints are this process's.
    process.env_remove("TOLLPASS_FAILPOINT");
    process
}

/// Progress for the operator, beside the answer on standard output.
fn tell(text: &str) {
    eprintln!("{text}");
}

fn facts(wallet: &Wallet) -> serde_json::Value {
    json!({
        "wallet": wallet.id.as_str(),
        "address": wallet.address.to_string(),
        "party": wallet.party.as_str(),
        "epoch": wallet.epoch,
        "origin": wallet.origin.as_str(),
        "recovery": wallet.recovery.map(|a| a.to_string()),
        "ceremony": alloy_primitives::hex::encode(wallet.ceremony),
        "identities": wallet.identities.iter().map(|(p, f)| (p.as_str(), f.to_string())).collect::<std::collections::BTreeMap<_, _>>(),
    })
}

fn print_facts(wallet: &Wallet, out: &mut dyn Write) -> Outcome {
    let recovery = wallet.recovery.map_or_else(|| "none".to_owned(), |a| a.to_string());
    writeln!(out, "wallet    {}", wallet.id)?;
    writeln!(out, "address   {}", wallet.address)?;
    writeln!(out, "party     {}", wallet.party)?;
    writeln!(out, "epoch     {}", wallet.epoch)?;
    writeln!(out, "origin    {}", wallet.origin.as_str())?;
    writeln!(out, "recovery  {recovery}")?;
    for (party, fingerprint) in &wallet.identities {
        writeln!(out, "{:<9} {fingerprint}", party.as_str())?;
    }
    Ok(())
}

impl From<CeremonyError> for Failure {
    fn from(error: CeremonyError) -> Self {
        match error {
            CeremonyError::Custody(error) => error.into(),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Self {
        match error {
            CustodyError::Unseal(_) | CustodyError::Ephemeral(_) => Self::Config(format!("tollpass: {error}")),
            error => Self::Failed(error.into()),
        }
    }
}

/// Runs a ceremony on a runtime of its own.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(work);
    // A thread that waits for a pipe must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}
