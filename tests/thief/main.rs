//! The thief: a program of its own that has what a stolen sidecar has (identity, share, passphrase, the co-signer's
//! address) and none of its scruples. It speaks the wire and contains no policy, ledger or limit of any kind.
//!
//! `--plan demo` tries the four obvious things and prints one JSON line each. `--plan mixed` makes thousands of requests of
//! every sort, over as many days as its parent lets pass: after each day it prints `{"day":n}` and waits for a line on
//! standard input. Whatever it gets signed it writes to `--out`, for somebody to bring to a chain.

mod loot;
mod plan;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// What the thief carries.
#[derive(Debug, Parser)]
#[command(about = "A stolen sidecar without scruples: for the demo and the tests")]
struct Args {
    /// The stolen identity key.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The stolen share folder.
    #[arg(long, value_name = "DIR")]
    share: PathBuf,
    /// The stolen passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase: PathBuf,
    /// The co-signer, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    cosigner: String,
    /// The co-signer's fingerprint.
    #[arg(long, value_name = "HEX")]
    pin: String,
    /// The agent the identity speaks for.
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// A payee the co-signer accepts.
    #[arg(long, value_name = "ADDRESS")]
    payee: String,
    /// What one honest payment costs there, atomic units of 6 decimals.
    #[arg(long, value_name = "UNITS", default_value_t = 10_000)]
    price: u64,
    /// What to try.
    #[arg(long, value_enum, default_value_t = plan::Plan::Demo)]
    plan: plan::Plan,
    /// Requests of the mixed plan, over all days.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Days of the mixed plan.
    #[arg(long, default_value_t = 7)]
    days: usize,
    /// Seed of the mixed plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where every signature it gets goes, one JSON object per line.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let run = || -> anyhow::Result<()> {
        let loot = loot::Loot::open(&args)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(plan::run(&args, loot))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thief: {error:#}");
            ExitCode::FAILURE
        }
    }
}
