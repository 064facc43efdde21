//! `tollpass wallet enroll`: at the co-signer it issues a one-time token; at the share holder it makes a key and redeems one.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{Failure, Outcome, print_json};
use crate::clock;
use crate::cosigner::config::Config;
use crate::cosigner::registry;
use crate::cosigner::run::identity;
use crate::cosigner::store::{EnrollError, Store};
use crate::custody::Custody;
use crate::mpc::Fingerprint;
use crate::payment::AgentId;
use crate::wire::identity::{self as keys, Identity, IdentityError};
use crate::wire::link::{Client, Peer};
use crate::wire::message::{Answer, Enroll, Enrolled, path};

/// How long redeeming may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `wallet enroll`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  at the co-signer:      tollpass wallet enroll --config cosigner.yaml --name sidecar-1 --agent research-bot
  at the share holder:   tollpass wallet enroll --redeem token.txt --identity s/id.pem --cosigner https://cs:7402 --pin FINGERPRINT

The token is good for ten minutes and one key. The key is made where it is used and never leaves that machine.")]
pub struct Args {
    /// The co-signer's configuration file.
    #[arg(long, value_name = "FILE", default_value = crate::cli::cosigner::CONFIG)]
    pub config: PathBuf,
    /// Name of the identity to come, for logs and `wallet revoke`.
    #[arg(long, required_unless_present = "redeem", conflicts_with = "redeem")]
    pub name: Option<AgentId>,
    /// An agent it may speak for; may be given more than once.
    #[arg(long = "agent", value_name = "AGENT", required_unless_present = "redeem", conflicts_with = "redeem")]
    pub agents: Vec<AgentId>,
    /// Redeem the token in this file, or on standard input with `-`.
    #[arg(long, value_name = "FILE", requires_all = ["identity", "cosigner", "pin"])]
    pub redeem: Option<PathBuf>,
    /// Where our key is, or is to be made.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The co-signer: https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub cosigner: Option<String>,
    /// The co-signer's fingerprint, as its operator's screen shows it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub pin: Option<Fingerprint>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match (&args.redeem, &args.identity, &args.cosigner, args.pin) {
        (Some(token), Some(key), Some(cosigner), Some(pin)) => runtime.block_on(redeem(token, key, cosigner, pin, args.json, out)),
        _ => runtime.block_on(issue(args, out)),
    }
}

async fn issue(args: &Args, out: &mut dyn Write) -> Outcome {
    let config = Config::inspect(&args.config)?;
    let (wallet, _) = Custody::inspect(&config.share).context("wallet.share")?;
    let fingerprint = identity(&config.identity)?.public().fingerprint();
    crate::state::prepare_private(&config.state, &config.private())?;
    let store = Store::open(&config.private())?;
    let name = args.name.clone().ok_or_else(|| anyhow!("--name is missing"))?;
    let issued = registry::issue(&store, &name, &wallet.id, &args.agents, clock::read().wall).await;
    let (token, expires_at) = issued.map_err(|error| match error {
        EnrollError::NameTaken => Failure::Config(format!("{name}: {error}")),
        other => Failure::Failed(other.into()),
    })?;
    let agents: Vec<&str> = args.agents.iter().map(AgentId::as_str).collect();
    if args.json {
        let expires = expires_at.rfc3339();
        return print_json(
            out,
            &json!({ "token": *token, "identity": name.as_str(), "agents": agents, "wallet": wallet.id, "pin": fingerprint.to_string(), "expires_at": expires }),
        );
    }
    writeln!(out, "token     {}", *token)?;
    writeln!(out, "pin       {fingerprint}")?;
    writeln!(out, "for       {name}, agents {}, wallet {}", agents.join(", "), wallet.id)?;
    writeln!(out, "until     {}, once", expires_at.rfc3339())?;
    writeln!(out, "\nHand the token over on a way you trust, compare the pin on another, then at the share holder:")?;
    writeln!(
        out,
        "  tollpass wallet enroll --redeem - --identity id.pem --cosigner https://HOST:{} --pin {fingerprint}",
        config.listen.port()
    )?;
    Ok(())
}

async fn redeem(token: &Path, key: &Path, cosigner: &str, pin: Fingerprint, json: bool, out: &mut dyn Write) -> Outcome {
    let token = read_token(token)?;
    let identity = key_of(key)?;
    crate::failpoint!("enroll_key_written");
    let authority = cosigner.strip_prefix("https://").unwrap_or(cosigner).trim_end_matches('/').to_owned();
    let client = Client::new(identity.clone(), Peer { authority: authority.clone(), pin }, PATIENCE);
    let question = postcard::to_allocvec(&Enroll { token: token.trim().to_owned() }).map_err(anyhow::Error::from)?;
    let answer = client.call(path::ENROLL, 0, &question, Instant::now() + PATIENCE).await.with_context(|| authority.clone())?;
    let answer: Answer<Enrolled> = postcard::from_bytes(&answer).map_err(|_| anyhow!("{authority}: not an answer of this version"))?;
    let enrolled = match answer {
        Answer::Yes(enrolled) => enrolled,
        Answer::No(_) => {
            let text = "the co-signer does not take this token: it is wrong, older than ten minutes, or was used by another key; its log says which";
            return Err(Failure::Failed(anyhow!("{text}")));
        }
    };
    let fingerprint = identity.public().fingerprint();
    let address = alloy_primitives::Address::from(enrolled.address);
    if json {
        let (name, wallet, agents) = (&enrolled.identity, &enrolled.wallet, &enrolled.agents);
        return print_json(
            out,
            &json!({ "identity": name, "fingerprint": fingerprint.to_string(), "wallet": wallet, "address": address.to_string(), "agents": agents }),
        );
    }
    writeln!(out, "enrolled as {} ({fingerprint})", enrolled.identity)?;
    writeln!(out, "wallet {} at {address}, for {}", enrolled.wallet, enrolled.agents.join(", "))?;
    Ok(())
}

/// The key there is, from an earlier try, or a new one.
fn key_of(path: &Path) -> Result<Identity, Failure> {
    let made = match keys::create(path) {
        Err(IdentityError::Exists) => keys::load_or_refuse(path),
        made => made,
    };
    Ok(made.with_context(|| path.display().to_string())?)
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(4096).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text))
    };
    read.with_context(|| path.display().to_string())?;
    Ok(text)
}
