//! `assets`: tokens beside the shipped table. Decimals, EIP-712 domain and price come from here, never from a seller (M2.3).

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Span;
use super::read::{Fields, Report, count, duration, fields, money, one, shown, text};
use super::yaml::{Node, Pos};
use crate::payment::{Asset, AssetId, AssetTable, Eip712Name, MicroUsd, Price, Timestamp};

/// The table, and when prices in it are fresh.
pub(super) struct Assets {
    pub(super) table: AssetTable,
    /// Only for assets whose price ages.
    pub(super) fresh: HashMap<AssetId, Span>,
}

/// Shipped assets plus the entries of all files.
pub(super) fn read(nodes: &[&Node], zone: &TimeZone, report: &mut Report) -> Assets {
    let shipped = AssetTable::shipped();
    let mut all = Assets { table: shipped.clone(), fresh: HashMap::new() };
    let mut seen: HashMap<AssetId, &Pos> = HashMap::new();
    for node in nodes {
        let Some((asset, fresh)) = asset(node, zone, report) else { continue };
        if let Some(first) = seen.insert(asset.id, &node.at) {
            report.error(&node.at, format!("assets: {} is defined in {}:{} already: keep one of them", asset.id, first.file, first.line));
        }
        if shipped.get(&asset.id).is_some_and(|known| known.decimals != asset.decimals || known.eip712 != asset.eip712) {
            report.warn(&node.at, format!("assets: {} is known out of the box with other decimals or another EIP-712 name: check them, a wrong one makes payments worthless or wrong", asset.id));
        }
        if let Some(fresh) = fresh {
            all.fresh.insert(asset.id, fresh);
        }
        all.table.insert(asset);
    }
    all
}

fn asset(node: &Node, zone: &TimeZone, report: &mut Report) -> Option<(Asset, Option<Span>)> {
    let known = ["id", "symbol", "decimals", "eip712", "usd", "margin", "as_of", "max_age"];
    let map = fields(node, "assets", &known, report)?;
    let id = required(&map, "id", report)
        .and_then(|n| one(n, "assets.id", report, |t| t.parse::<AssetId>().map_err(|e| format!("\"{}\" is {e}", shown(t)))));
    let symbol = required(&map, "symbol", report).and_then(|n| one(n, "assets.symbol", report, symbol_text));
    let decimals =
        required(&map, "decimals", report).and_then(|n| count(n, "assets.decimals", 36, report)).and_then(|n| u8::try_from(n).ok());
    let eip712 = required(&map, "eip712", report).and_then(|n| eip712(n, report));
    let (price, fresh) = price(&map, zone, report);
    Some((Asset { id: id?, symbol: symbol?, decimals: decimals?, eip712: eip712?, price }, fresh))
}

fn required<'a>(map: &Fields<'a>, key: &str, report: &mut Report) -> Option<&'a Node> {
    let node = map.get(key);
    if node.is_none() {
        report.error(map.at, format!("assets: `{key}` is missing: write id, symbol, decimals, eip712 and usd"));
    }
    node
}

fn symbol_text(t: &str) -> Result<String, String> {
    let legal = t.len() <= 24
        && t.starts_with(|c: char| c.is_ascii_alphanumeric())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if legal {
        Ok(t.to_owned())
    } else {
        Err(format!("\"{}\" is not a symbol: write up to 24 of A-Z a-z 0-9 . _ + -, such as USDC", shown(t)))
    }
}

fn eip712(node: &Node, report: &mut Report) -> Option<Eip712Name> {
    let map = fields(node, "assets.eip712", &["name", "version"], report)?;
    let mut part = |key: &str| {
        let Some(node) = map.get(key) else {
            report.error(map.at, format!("assets.eip712: `{key}` is missing: write what the token contract itself uses"));
            return None;
        };
        text(node, &format!("assets.eip712.{key}"), report).map(str::to_owned)
    };
    let (name, version) = (part("name"), part("version"));
    Some(Eip712Name { name: name?, version: version? })
}

const AGING: &str = "a price other than 1.00 ages, so it needs `margin` (percent added on top), `as_of` and `max_age`: write, for example, usd: \"1.08\", margin: 3, as_of: 2026-11-20, max_age: 7d";

/// Micro-USD per token with the margin on top, and when it holds. Anything wrong or missing leaves the asset without a price.
fn price(map: &Fields<'_>, zone: &TimeZone, report: &mut Report) -> (Option<Price>, Option<Span>) {
    let Some(usd) = map.get("usd") else {
        report.warn(map.at, "assets: without `usd` this asset cannot be paid: write usd: \"1.00\" for a dollar coin");
        return (None, None);
    };
    let Some(dollars) = money(usd, "assets.usd", report) else { return (None, None) };
    let margin = map.get("margin").and_then(|n| one(n, "assets.margin", report, percent)).unwrap_or(MicroUsd::ZERO);
    let as_of = map.get("as_of").and_then(|n| one(n, "assets.as_of", report, |t| instant(t, zone)));
    let max_age = map.get("max_age").and_then(|n| duration(n, "assets.max_age", report));
    let aging = ["margin", "as_of", "max_age"].map(|key| map.get(key).is_some());
    if aging.contains(&false) && (aging.contains(&true) || dollars != MicroUsd::new(1_000_000)) {
        report.error(&usd.at, format!("assets.usd: {AGING}"));
        return (None, None);
    }
    let price = with_margin(dollars, margin);
    if price.is_none() {
        report.error(&usd.at, "assets.usd: a price is above zero and, with its margin, below ten billion dollars");
    }
    // Fresh while now − as_of ≤ max_age (M3.7); a time to come is no price of today.
    let span = as_of.zip(max_age).map(|(from, age)| {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Span { from, until: from.plus_millis(age).plus_millis(1) }
    });
    (price, span)
}

/// Percent in millionths: the grammar is that of money.
fn percent(t: &str) -> Result<MicroUsd, String> {
    MicroUsd::parse(t).map_err(|_| format!("\"{}\" is not a percentage: write digits only, such as 3 or 2.5", shown(t)))
}

/// `dollars × (100 + margin) ÷ 100`, rounded up; `margin` is percent in the same millionths.
fn with_margin(dollars: MicroUsd, margin: MicroUsd) -> Option<Price> {
    const HUNDRED: i128 = 100_000_000;
    let product = i128::from(dollars.micro()) * (HUNDRED + i128::from(margin.micro()));
    i64::try_from((product + HUNDRED - 1) / HUNDRED).ok().and_then(Price::new)
}

fn instant(t: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let day = || zone.to_ambiguous_timestamp(t.parse::<Date>().ok()?.at(0, 0, 0, 0)).earlier().ok();
    let at = if t.contains(['T', 't', ' ']) { t.parse::<jiff::Timestamp>().ok() } else { day() };
    at.map(|at| Timestamp::from_millis(at.as_millisecond()))
        .ok_or_else(|| format!("\"{}\" is not a date or time: write 2026-11-20 or 2026-11-20T12:00:00Z", shown(t)))
}
