//! `networks` and `assets` of an entry: symbols are resolved per network at load, or are an error (M3.6).

use super::read::{Fields, Report, each, items, shown, texts};
use super::yaml::{Node, Pos, Value};
use crate::payment::{Asset, AssetId, AssetTable, ChainId};

/// The networks and assets an allow entry selects; empty = any.
pub(super) fn resolve_allow(map: &Fields<'_>, table: &AssetTable, report: &mut Report) -> (Vec<ChainId>, Vec<AssetId>) {
    let networks = networks(map, "allow", report);
    let mut ids = Vec::new();
    if let Some(node) = map.get("assets") {
        for (text, at) in texts(node, "allow.assets", report) {
            match text.contains('/') {
                true => ids.extend(by_id(text, at, &networks, table, report)),
                false => ids.extend(by_symbol(text, at, &networks, table, report)),
            }
        }
    }
    if let Some(node) = map.get("networks") {
        dead_networks(node, &ids, map.get("assets").is_some(), table, report);
    }
    (networks, ids)
}

/// The networks and assets a deny entry selects; empty = any. A symbol takes every token that carries it, test networks too.
pub(super) fn resolve_deny(map: &Fields<'_>, table: &AssetTable, report: &mut Report) -> (Vec<ChainId>, Vec<AssetId>) {
    let networks = networks(map, "deny", report);
    let mut ids = Vec::new();
    if let Some(node) = map.get("assets") {
        for (text, at) in texts(node, "deny.assets", report) {
            if text.contains('/') {
                match text.parse::<AssetId>() {
                    Ok(id) => ids.push(id),
                    Err(e) => report.error(at, format!("deny.assets: \"{}\" is {e}", shown(text))),
                }
                continue;
            }
            let found: Vec<AssetId> = on(&networks, table.by_symbol(text)).map(|a| a.id).collect();
            if found.is_empty() {
                report.error(at, format!("deny.assets: {}", nothing(text, &networks, table)));
            }
            ids.extend(found);
        }
    }
    (networks, ids)
}

fn networks(map: &Fields<'_>, section: &str, report: &mut Report) -> Vec<ChainId> {
    let read = |t: &str| t.parse::<ChainId>().map_err(|e| format!("\"{}\" is {e}", shown(t)));
    map.get("networks").map(|node| each(node, &format!("{section}.networks"), report, read)).unwrap_or_default()
}

fn on<'a, I, A>(networks: &'a [ChainId], assets: I) -> impl Iterator<Item = A> + use<'a, I, A>
where
    I: Iterator<Item = A>,
    A: AsRef<Asset>,
{
    assets.filter(move |a| networks.is_empty() || networks.contains(&a.as_ref().id.chain))
}

fn by_id(text: &str, at: &Pos, networks: &[ChainId], table: &AssetTable, report: &mut Report) -> Option<AssetId> {
    let fault = match text.parse::<AssetId>() {
        Err(e) => format!("\"{}\" is {e}", shown(text)),
        Ok(id) if table.get(&id).is_none() => format!("{id} is not in the asset table: describe it under `assets` at the top of the file"),
        Ok(id) if networks.is_empty() && id.chain.is_testnet() => {
            format!("{id} is on a test network, which is paid only where it is listed: add `networks: [\"{}\"]`", id.chain)
        }
        Ok(id) if !networks.is_empty() && !networks.contains(&id.chain) => {
            format!("{id} is on none of the listed networks: add \"{}\" to `networks`, or remove it", id.chain)
        }
        Ok(id) => return Some(id),
    };
    report.error(at, format!("allow.assets: {fault}"));
    None
}

fn by_symbol(symbol: &str, at: &Pos, networks: &[ChainId], table: &AssetTable, report: &mut Report) -> Vec<AssetId> {
    let payable = |a: &Asset| !networks.is_empty() || !a.id.chain.is_testnet();
    let mut found: Vec<AssetId> = on(networks, table.by_symbol(symbol)).filter(|a| payable(a)).map(|a| a.id).collect();
    found.sort_unstable();
    if found.is_empty() {
        report.error(at, format!("allow.assets: {}", nothing(symbol, networks, table)));
    }
    if let Some([one, two]) =
        found.windows(2).find(|pair| pair[0].chain == pair[1].chain).and_then(|pair| <[AssetId; 2]>::try_from(pair).ok())
    {
        report.error(at, format!("allow.assets: {symbol} names several tokens on {}: write the one you mean, {one} or {two}", one.chain));
    }
    found
}

fn nothing(symbol: &str, networks: &[ChainId], table: &AssetTable) -> String {
    let mut known: Vec<&str> = on(networks, table.iter()).map(|a| a.symbol.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let place = if networks.is_empty() {
        "on any network".to_owned()
    } else {
        format!("on {}", networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let known = if known.is_empty() { "no asset is known there".to_owned() } else { format!("known there: {}", known.join(", ")) };
    let other_case = on(networks, table.iter()).find(|a| a.symbol.eq_ignore_ascii_case(symbol));
    let hint = other_case.map_or(String::new(), |a| format!(" (did you mean {}?)", a.symbol));
    format!("\"{}\" is no asset {place}{hint}; {known}: correct it, or describe it under `assets` at the top of the file", shown(symbol))
}

/// A listed network on which nothing selected exists could never match: most likely a slip.
fn dead_networks(node: &Node, ids: &[AssetId], chosen: bool, table: &AssetTable, report: &mut Report) {
    for item in items(node) {
        let Value::Text(text) = &item.value else { continue };
        let Ok(chain) = text.parse::<ChainId>() else { continue };
        if !table.iter().any(|a| a.id.chain == chain) {
            let message =
                format!("allow.networks: no asset is known on {chain}: correct it, or describe one under `assets` at the top of the file");
            report.error(&item.at, message);
        } else if chosen && !ids.is_empty() && !ids.iter().any(|id| id.chain == chain) {
            report
                .error(&item.at, format!("allow.networks: none of `assets` exists on {chain}: remove the network, or add an asset of it"));
        }
    }
}
