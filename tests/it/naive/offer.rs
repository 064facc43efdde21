//! Each offer alone (M3.4 step 1): what it costs, or why it cannot be paid whatever the policy says.

use super::case::{Case, Offer};
use super::money::{micro, value};
use super::time::{ms, span_ms};
use super::yaml::Node;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// An offer that can be paid at all.
#[derive(Clone, Debug)]
pub(crate) struct Priced {
    pub(crate) atomic: i128,
    pub(crate) micro: i128,
    /// `eip155:8453/erc20:0x…`, lower case.
    pub(crate) asset: String,
}

/// The part of the shipped table that the cases use: network, contract. All are USDC with six decimals and a dollar each.
const SHIPPED: [(&str, &str); 5] = [
    ("eip155:8453", "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
    ("eip155:84532", "0x036cbd53842c5426634e7929541ec2318f3dcf7e"),
    ("eip155:1", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),
    ("eip155:137", "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359"),
    ("eip155:42161", "0xaf88d065e77c8cc2239327c5edb3a432268e5831"),
];

/// Chains whose money is worth nothing, as far as the cases name them.
pub(crate) const TESTNETS: [&str; 2] = ["eip155:84532", "eip155:11155111"];

/// The CAIP-19 id, lower case, of a symbol, a contract or an id on a network; `None`: not in the table.
pub(crate) fn asset_id(policy: &Node, network: &str, name: &str) -> Option<String> {
    let known: Vec<(String, String)> = SHIPPED
        .iter()
        .map(|(chain, token)| ("USDC".to_owned(), format!("{chain}/erc20:{token}")))
        .chain(
            policy
                .get("assets")
                .items()
                .into_iter()
                .map(|a| (a.get("symbol").text().expect("a symbol").to_owned(), a.get("id").text().expect("an id").to_lowercase())),
        )
        .collect();
    let name = if name.starts_with("0x") { format!("{network}/erc20:{name}") } else { name.to_owned() };
    let named = |(symbol, id): &&(String, String)| *id == name.to_lowercase() || *symbol == name && id.starts_with(&format!("{network}/"));
    known.iter().find(named).map(|(_, id)| id.clone())
}

pub(crate) fn validate(policy: &Node, case: &Case, offer: &Offer) -> Result<Priced, &'static str> {
    if offer.scheme != "exact" {
        return Err("unsupported_scheme");
    }
    let chain = offer.network.strip_prefix("eip155:").unwrap_or("");
    if chain.is_empty() || chain.starts_with('0') || !chain.bytes().all(|b| b.is_ascii_digit()) {
        return Err("unsupported_network");
    }
    let asset = asset_id(policy, &offer.network, &offer.asset).ok_or("unknown_asset")?;
    let token = asset.rsplit(':').next().expect("a last part");
    let zero = offer.payee.trim_start_matches("0x").bytes().all(|b| b == b'0');
    let payer = case.wallet.as_deref().is_some_and(|w| w.to_lowercase() == offer.payee);
    if offer.payee.len() != 42 || zero || payer || offer.payee == token {
        return Err("invalid_payee");
    }
    if offer.timeout.parse::<u64>().is_ok_and(|seconds| seconds == 0) {
        return Err("invalid_timeout");
    }
    if !["authorization", "upfront", "escrow"].contains(&offer.flow.as_str()) {
        return Err("unsupported_flow");
    }
    if offer.transfer != "eip3009" {
        return Err("unsupported_transfer");
    }
    let (price, margin, decimals) = price(policy, case, &asset).ok_or("asset_not_priced")?;
    let atomic: i128 = match (&offer.atomic, offer.usd) {
        (Some(text), _) => text.parse().map_err(|_| "amount_too_large")?,
        // dollars of a coin that is a dollar
        (None, Some(usd)) => usd * 10i128.pow(decimals) / 1_000_000,
        (None, None) => panic!("an offer needs usd or atomic"),
    };
    let micro = value(atomic, price, margin, decimals).ok_or("amount_too_large")?;
    Ok(Priced { atomic, micro, asset })
}

/// Price in micro-USD of one coin, margin in percent, decimals. A peg other than a dollar ages; its age may be max_age exactly.
fn price(policy: &Node, case: &Case, asset: &str) -> Option<(i128, i128, u32)> {
    let own = policy.get("assets").items().into_iter().find(|a| a.get("id").text().is_some_and(|id| id.to_lowercase() == asset));
    let Some(own) = own else { return Some((1_000_000, 0, 6)) };
    let decimals = own.get("decimals").text().expect("decimals").parse().expect("a number");
    let usd = micro(own.get("usd").text()?);
    let margin = own.get("margin").text().map_or(0, |t| t.parse().expect("percent"));
    if let (Some(as_of), Some(max_age)) = (own.get("as_of").text(), own.get("max_age").text()) {
        let day: Date = as_of.parse().expect("a date");
        let midnight = day.to_zoned(TimeZone::UTC).expect("a midnight").timestamp();
        if ms(case.at) - ms(midnight) > span_ms(max_age) {
            return None;
        }
    }
    Some((usd, margin, decimals))
}
