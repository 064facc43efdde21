//! `tollpass policy explain`: what a policy would do with a request, with the rule, the numbers and the verdict.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{Address, U256};
use http::Method;

use super::ledger::recorded;
use super::{Failure, Outcome, config_if_any, print_json};
use crate::clock;
use crate::ledger::{Purchase, PurchaseState};
use crate::payment::{
    AgentId, Amount, Asset, AssetTable, ChainId, Challenge, Flow, MicroUsd, Offer, Payee, Payer, ProtocolId, Scheme, SessionName,
    Timestamp, TransferMethod, WireEntry, parse_address,
};
use crate::policy::{Explanation, History, Host, Input, Policy, RuleId, Scope, Span, Standing, View};
use crate::reload::read_policy_sources;

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy explain --policy policies --agent research-bot --url https://api.bureau.example/v2/report --price 0.02
  tollpass policy explain --config tollpass.yaml --agent research-bot --url https://api.bureau.example/x --challenge 402.http

The challenge is what `curl -i` printed, or the bare PAYMENT-REQUIRED value, or the JSON body of a version 1 seller.
With a configuration, what was spent so far counts; without one, nothing was. Exit status 0 whatever the verdict.")]
pub struct Args {
    /// Who asks.
    #[arg(long, value_name = "NAME")]
    pub agent: AgentId,
    /// What is asked for.
    #[arg(long, value_name = "URL")]
    pub url: http::Uri,
    /// The price in US dollars.
    #[arg(long, value_name = "USD", required_unless_present = "challenge")]
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
    let sources = read_policy_sources(&path).map_err(|e| Failure::Config(format!("{}: cannot be read: {e}", path.display())))?;
    let policy = Policy::parse(&sources, 1).map_err(|e| Failure::Config(e.to_string()))?;
    let books = Recorded(config.as_ref().map(recorded).transpose()?.flatten().unwrap_or_default(), Standing::default());
    let explanation = explain(args, &policy, &books)?;
    if args.json {
        return print_json(out, &explanation.to_json());
    }
    write!(out, "{explanation}")?;
    if config.is_none() {
        writeln!(out, "\nWithout --config nothing counts as spent.")?;
    }
    if args.challenge.is_none() && args.payee.is_none() {
        writeln!(out, "\nWithout --payee the payee is {ANY_PAYEE}, which no list and no pin names.")?;
    }
    Ok(())
}

/// Asks `policy` what `args` ask.
pub(super) fn explain(args: &Args, policy: &Policy, books: &dyn View) -> Result<Explanation, Failure> {
    let wrong_url = || Failure::Config("--url: write an absolute URL such as https://api.bureau.example/v2/report".into());
    let https = match args.url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong_url()),
    };
    let host = args.url.host().and_then(|h| Host::parse(h).ok()).ok_or_else(wrong_url)?;
    let challenge = match &args.challenge {
        Some(file) => recorded_challenge(file, policy.assets())?,
        None => made_up_challenge(args, policy.assets())?,
    };
    let input = Input {
        agent: &args.agent,
        session: args.session.as_ref(),
        method: &args.method,
        https,
        host: &host,
        port: args.url.port_u16().unwrap_or(if https { 443 } else { 80 }),
        path: args.url.path(),
        payer: Payer(PAYER),
        now: args.at.map_or_else(|| clock::read().wall, |at| Timestamp::from_millis(at.as_millisecond())),
        context: &crate::policy::Context::default(),
        granted: &[],
        held: MicroUsd::ZERO,
        bound_to: None,
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

/// The books as the list of purchases tells them: each counts in the period it was first held in.
pub(super) struct Recorded(pub(super) Vec<Purchase>, pub(super) Standing);

impl Recorded {
    fn of<'a>(&'a self, scope: &'a Scope, span: Span) -> impl Iterator<Item = &'a Purchase> {
        let mine = move |p: &&Purchase| match scope {
            Scope::Agent(agent) => p.agent == *agent,
            Scope::Entry(agent, entry) => p.agent == *agent && p.entry == *entry,
            Scope::Host(agent, host) => p.agent == *agent && p.host == **host,
            Scope::AgentPayee(agent, payee) => p.agent == *agent && p.payee == *payee,
            Scope::Session(agent, session) => p.agent == *agent && p.session.as_ref() == Some(session),
            Scope::Shared(members, customer) => {
                members.contains(&p.agent) && customer.as_deref().is_none_or(|c| c == p.customer.as_deref().unwrap_or_default())
            }
            Scope::Wallet(payer) => p.payer == *payer,
            Scope::Payee(payee) => p.payee == *payee,
            Scope::Identity(name) => p.cosigned.as_ref().is_some_and(|c| c.identity == *name),
            Scope::Unverified => p.cosigned.as_ref().is_some_and(|c| c.unverified),
        };
        self.0.iter().filter(mine).filter(move |p| span.from <= p.at && p.at < span.until)
    }
}

impl View for Recorded {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        let spent = self.of(scope, span).filter(|p| p.state != PurchaseState::Void);
        spent.fold(MicroUsd::ZERO, |sum, p| sum.checked_add(p.held).unwrap_or(MicroUsd::new(i64::MAX)))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        u32::try_from(self.of(scope, span).count()).unwrap_or(u32::MAX)
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let mut made: Vec<Timestamp> = self.of(scope, span).map(|p| p.at).collect();
        made.sort_unstable();
        made.get(usize::try_from(n).ok()?).copied()
    }

    fn history(&self, _: &AgentId, _: &RuleId, _: &Host, _: &Method, _: Timestamp) -> History {
        History::default()
    }

    fn standing(&self) -> &Standing {
        &self.1
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let host = host.to_string();
        let here = |p: &&Purchase| p.consumed && p.agent == *agent && p.entry == *entry && p.host == host && p.asset.chain == chain;
        self.0.iter().filter(here).min_by_key(|p| (p.at, p.id)).map(|p| p.payee.0)
    }
}
