//! An approver's key, and what it signs: a grant over exactly the payment of one question, for the co-signer to verify (S5).

use std::io::Write;
use std::path::{Path, PathBuf};

use alloy_primitives::{U256, hex};
use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Failure, Outcome, print_json};
use crate::cosigner::grant::Grant;
use crate::payment::ChainId;
use crate::wire::identity::{self, Identity};

/// Arguments of `approvals key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass approvals key approver.pem --new     make one, mode 0400, and print the public half
  tollpass approvals key approver.pem           print it again

The line goes into the co-signer's policy, and nowhere else:
  approvers: { finance: { quorum: 1, keys: [\"MFkw…\"], may_exceed: [caps.day] } }
Keep the file on your own machine: whoever has it beside a proxy's identity lifts those limits.")]
pub struct KeyArgs {
    /// The key's file.
    pub file: PathBuf,
    /// Make it; an existing file is not overwritten.
    #[arg(long)]
    pub new: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn key(args: &KeyArgs, out: &mut dyn Write) -> Outcome {
    let key = if args.new {
        identity::create(&args.file).map_err(|error| anyhow!("{}: {error}", args.file.display()))?
    } else {
        load(&args.file)?
    };
    let public = STANDARD.encode(key.public().spki());
    if args.json {
        return print_json(out, &json!({ "public": public, "fingerprint": key.fingerprint().to_string() }));
    }
    Ok(writeln!(out, "{public}")?)
}

fn load(file: &Path) -> Result<Identity, Failure> {
    identity::load_or_refuse(file).map_err(|error| Failure::Config(format!("{}: {error}", file.display())))
}

/// A grant for the question in `ticket`, as the API shows it, in base64.
///
/// # Errors
/// A key that cannot be read, or a ticket with something missing.
pub(super) fn sign(ticket: &Value, key: &Path, exceeds: &[String]) -> Result<String, Failure> {
    let grant = grant(ticket, exceeds).context("the proxy does not say all that a grant names")?;
    Ok(STANDARD.encode(grant.sign(&load(key)?)))
}

fn grant(ticket: &Value, exceeds: &[String]) -> anyhow::Result<Grant> {
    let text = |name: &str| ticket[name].as_str().filter(|text| !text.is_empty()).with_context(|| format!("`{name}` is missing"));
    let bytes = |name: &str| hex::decode(text(name)?).with_context(|| format!("`{name}` is not hex"));
    let account = |name: &str| <[u8; 20]>::try_from(bytes(name)?).map_err(|_| anyhow!("`{name}` is no address"));
    let id = |name: &str| <[u8; 16]>::try_from(bytes(name)?).map_err(|_| anyhow!("`{name}` has not 16 bytes"));
    let expires: jiff::Timestamp = text("expires_at")?.parse().context("`expires_at` is no time")?;
    Ok(Grant {
        version: 1,
        ticket: id("id")?,
        purchase: id("purchase")?,
        agent: text("agent")?.to_owned(),
        chain: text("network")?.parse::<ChainId>().map_err(|_| anyhow!("`network` is no chain"))?.id(),
        token: account("token")?,
        from: account("wallet")?,
        to: account("payee")?,
        value: U256::from_str_radix(text("amount")?, 10).context("`amount` is no number")?.to_be_bytes(),
        exceeds: exceeds.to_vec(),
        expires: u64::try_from(expires.as_second()).context("`expires_at` is long ago")?,
    })
}
