//! `tollpass policy explain`: what a policy would do with a request, with the rule, the numbers and the verdict.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use http::Method;

use super::books::Recorded;
use super::ledger::recorded;
use super::{Failure, Outcome, config_if_any, print_json};
use crate::clock;
use crate::config::Config;
use crate::payment::{
    AgentId, Amount, Asset, AssetTable, ChainId, Challenge, Flow, MicroUsd, Offer, Payee, Payer, ProtocolId, Scheme, SessionName,
    Timestamp, TransferMethod, WireEntry, parse_address,
};
use crate::policy::{Context, Explanation, Host, Input, Policy, View};
use crate::reload::read_policy_sources;
use crate::stops;

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy explain --policy policies --agent research-bot --url https://api.bureau.example/v2/report --price 0.02
  tollpass policy explain --config tollpass.yaml --agent research-bot --url https://api.bureau.example/x --challenge 402.http
  tollpass policy explain --agent research-bot --url https://api.bureau.example/x --price 0.02 --context 'confidence=0.9'
  tollpass policy explain --log state/private/decisions --ticket 3f9a
  tollpass policy explain --log decisions.jsonl --row 17 --policy draft.yaml

The challenge is what `curl -i` printed, or the bare PAYMENT-REQUIRED value, or the JSON body of a version 1 seller.
With a configuration, what was spent and bought so far counts, and so does what is frozen; without one, nothing was.
With --log a recorded decision is taken again, with what it read of the books then. Exit status 0 whatever the verdict.")]
pub struct Args {
    /// Who asks.
    #[arg(long, value_name = "NAME", required_unless_present = "log")]
    pub agent: Option<AgentId>,
    /// What is asked for.
    #[arg(long, value_name = "URL", required_unless_present = "log")]
    pub url: Option<http::Uri>,
    /// The price in US dollars.
    #[arg(long, value_name = "USD", required_unless_present_any = ["challenge", "log"])]
    pub price: Option<MicroUsd>,
    /// The network of that price.
    #[arg(long, value_name = "CAIP-2", default_value = "eip155:8453", conflicts_with = "challenge")]
    pub network: ChainId,
    /// The symbol of the token.
    #[arg(long, value_name = "SYMBOL", default_value = "USDC", conflicts_with = "challenge")]
    pub asset: String,
    /// Who is paid; else an address that stands for any.
    #[arg(long, value_name = "0x…", value_parser = address, conflicts_with = "challenge")]
    pub payee: Option<Address>,
    /// A recorded challenge.
    #[arg(long, value_name = "FILE", conflicts_with = "price")]
    pub challenge: Option<PathBuf>,
    /// The policy file or folder; else the one of the configuration, else policies/.
    #[arg(long, value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// The configuration file, for its policy and its ledger; else tollpass.yaml here, if there is no --policy.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Request method.
    #[arg(long, default_value = "GET")]
    pub method: Method,
    /// Session.
    #[arg(long, value_name = "NAME")]
    pub session: Option<SessionName>,
    /// What the request says of itself, as its Tollpass-Context header would; keys that the policy does not declare do not count.
    #[arg(long, value_name = "TEXT")]
    pub context: Option<String>,
    /// Explain a recorded decision instead: its file, or the folder of a log.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["agent", "url", "price", "challenge", "session", "at", "context"], requires = "which")]
    pub log: Option<PathBuf>,
    /// The line of that file.
    #[arg(long, value_name = "N", group = "which", requires = "log")]
    pub row: Option<usize>,
    /// The decision that this purchase was held for; the beginning of its id will do.
    #[arg(long, value_name = "ID", group = "which", requires = "log")]
    pub purchase: Option<String>,
    /// The last decision that gave out this ticket; the beginning of its id will do.
    #[arg(long, value_name = "ID", group = "which", requires = "log")]
    pub ticket: Option<String>,
    /// When, such as 2026-12-24T18:00:00Z; else now.
    #[arg(long, value_name = "RFC 3339")]
    pub at: Option<jiff::Timestamp>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Stands for whoever is paid when `--payee` is not given, and for the account that pays.
const ANY_PAYEE: Address = Address::repeat_byte(0x11);
const PAYER: Address = Address::repeat_byte(0x22);

fn address(text: &str) -> Result<Address, String> {
    parse_address(text).ok_or_else(|| "write 0x and 40 hex digits; mixed case must have the EIP-55 checksum".to_owned())
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let config = if args.config.is_none() && args.policy.is_some() { None } else { config_if_any(args.config.as_deref())? };
    let path = args.policy.clone().or_else(|| config.as_ref().map(|c| c.policy.clone())).unwrap_or_else(|| "policies".into());
    let policy = policy_at(&path)?;
    if let Some(log) = &args.log {
        return super::row::explain(log, args, policy, out);
    }
    let books = config.as_ref().map(books).transpose()?.unwrap_or_default();
    let explanation = explain(args, &policy, &books)?;
    if args.json {
        return print_json(out, &explanation.to_json());
    }
    write!(out, "{explanation}")?;
    if args.context.is_some() && context(args, &policy).is_empty() {
        let known: Vec<&str> = policy.context_keys().names().collect();
        let known = if known.is_empty() { "it declares none".to_owned() } else { format!("it declares {}", known.join(", ")) };
        writeln!(out, "\nNothing of --context counts: write KEY=VALUE, … with keys that the policy declares under `context`; {known}.")?;
    }
    if config.is_none() {
        writeln!(out, "\nWithout --config nothing counts as spent.")?;
    }
    if args.challenge.is_none() && args.payee.is_none() {
        writeln!(out, "\nWithout --payee the payee is {ANY_PAYEE}, which no list and no pin names.")?;
    }
    Ok(())
}

/// The policy in a file or folder.
pub(super) fn policy_at(path: &Path) -> Result<Policy, Failure> {
    let sources = read_policy_sources(path).map_err(|e| Failure::Config(format!("{}: cannot be read: {e}", path.display())))?;
    Policy::parse(&sources, 1).map_err(|e| Failure::Config(e.to_string()))
}

/// What the configured state holds: purchases, freezes, the kill switch.
fn books(config: &Config) -> Result<Recorded, Failure> {
    let standing = stops::recorded(&config.private()).map_err(|e| Failure::Failed(anyhow::Error::new(e).context("what is frozen")))?;
    Ok(Recorded { purchases: recorded(config)?.unwrap_or_default(), standing })
}

fn context(args: &Args, policy: &Policy) -> Context {
    Context::parse(args.context.as_ref().map(String::as_bytes), policy.context_keys())
}

/// Asks `policy` what `args` ask.
pub(super) fn explain(args: &Args, policy: &Policy, books: &dyn View) -> Result<Explanation, Failure> {
    let wrong_url = || Failure::Config("--url: write an absolute URL such as https://api.bureau.example/v2/report".into());
    let (Some(agent), Some(url)) = (&args.agent, &args.url) else { return Err(wrong_url()) };
    let https = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong_url()),
    };
    let host = url.host().and_then(|h| Host::parse(h).ok()).ok_or_else(wrong_url)?;
    let challenge = match &args.challenge {
        Some(file) => recorded_challenge(file, policy.assets())?,
        None => made_up_challenge(args, policy.assets())?,
    };
    let input = Input {
        agent,
        session: args.session.as_ref(),
        method: &args.method,
        https,
        host: &host,
        port: url.port_u16().unwrap_or(if https { 443 } else { 80 }),
        path: url.path(),
        payer: Payer(PAYER),
        now: args.at.map_or_else(|| clock::read().wall, |at| Timestamp::from_millis(at.as_millisecond())),
        context: &context(args, policy),
        granted: &[],
        held: MicroUsd::ZERO,
        bound_to: None,
        session_max: None,
    };
    Ok(policy.evaluate(&input, &challenge, books).explain(policy, &input, &challenge))
}

/// One offer at the price that was asked for.
fn made_up_challenge(args: &Args, assets: &AssetTable) -> Result<Challenge, Failure> {
    let price = args.price.unwrap_or_default();
    let asset = assets.by_symbol(&args.asset).find(|a| a.id.chain == args.network).cloned().ok_or_else(|| {
        let mut there: Vec<&str> = assets.iter().filter(|a| a.id.chain == args.network).map(|a| a.symbol.as_str()).collect();
        there.sort_unstable();
        let known = if there.is_empty() { "no asset is known there".to_owned() } else { format!("known there: {}", there.join(", ")) };
        Failure::Config(format!(
            "--asset: there is no {} on {}; {known}; more can be declared under `assets` of the policy",
            args.asset, args.network
        ))
    })?;
    let atomic = atomic(price, &asset).ok_or_else(|| {
        Failure::Config(format!("--price: {} has no price in US dollars: declare `usd` under `assets` of the policy", args.asset))
    })?;
    let offer = Offer {
        index: 0,
        protocol: ProtocolId::X402V2,
        scheme: Scheme::Exact,
        flow: Flow::Authorization,
        transfer: TransferMethod::Eip3009,
        amount: Amount::new(asset.id, atomic),
        asset,
        price,
        payee: Payee(args.payee.unwrap_or(ANY_PAYEE)),
        max_timeout: 300,
        wire: WireEntry { accepted: Arc::from("{}"), resource: None, extensions: None },
    };
    Ok(Challenge { protocol: ProtocolId::X402V2, offers: vec![offer], rejected: Vec::new(), error: None })
}

/// The least amount that is worth `price`.
fn atomic(price: MicroUsd, asset: &Asset) -> Option<U256> {
    let per_token = U256::from(asset.price?.micro_per_token().unsigned_abs());
    let scale = U256::from(10).checked_pow(U256::from(asset.decimals))?;
    Some(U256::from(price.micro().unsigned_abs()).checked_mul(scale)?.div_ceil(per_token))
}

fn recorded_challenge(file: &Path, assets: &AssetTable) -> Result<Challenge, Failure> {
    let bytes = std::fs::read(file).map_err(|e| Failure::Config(format!("{}: cannot be read: {e}", file.display())))?;
    super::recorded::parse(&bytes, assets).map_err(|text| Failure::Config(format!("{}: {text}", file.display())))
}
