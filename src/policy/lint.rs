//! Entries that contradict each other (M3.5): what a deny makes unreachable is an error, what an earlier entry makes useless
//! a warning. Both are claimed only when they are certain, so silence proves nothing.

use super::read::Report;
use super::rule::{Allow, Deny, PayTo, Target};
use super::yaml::Pos;

/// Compares the entries of one agent. On a co-signer the first entry that *permits* counts, so a later one is never useless.
pub(super) fn agent(allow: &[(Pos, Allow)], deny: &[(Pos, Deny)], cosigner: bool, report: &mut Report) {
    for (index, (at, entry)) in allow.iter().enumerate() {
        if let Some((place, deny)) = deny.iter().find(|(_, d)| denies_all(d, entry)) {
            let (id, deny) = (&entry.id, &deny.id);
            report.error(
                at,
                format!("allow: `{id}` is unreachable: the deny entry `{deny}` (line {}) takes all of it: remove one of them", place.line),
            );
        } else if let Some((place, earlier)) = allow[..index].iter().find(|(_, a)| !cosigner && takes_all(a, entry)) {
            let (id, earlier) = (&entry.id, &earlier.id);
            report.warn(at, format!("allow: `{id}` is never used: `{earlier}` (line {}) stands before it and takes everything it would: the first match counts", place.line));
        }
    }
}

fn denies_all(deny: &Deny, entry: &Allow) -> bool {
    let (wide, narrow) = (&deny.target, &entry.target);
    let ports = match (wide.ports.as_slice(), narrow.ports.as_slice()) {
        ([], _) => true,
        (_, []) => own_ports_within(&wide.ports, entry),
        (wide, narrow) => within(narrow, wide),
    };
    (wide.hosts.is_empty() || hosts_within(wide, narrow))
        && ports
        && same_request(wide, narrow)
        && within_or_any(&narrow.networks, &wide.networks)
        && within_or_any(&narrow.assets, &wide.assets)
        && within_or_any(&narrow.payees, &wide.payees)
}

fn takes_all(earlier: &Allow, later: &Allow) -> bool {
    let (wide, narrow) = (&earlier.target, &later.target);
    let ports = match (wide.ports.as_slice(), narrow.ports.as_slice()) {
        ([], []) => true,
        ([], _) => narrow.hosts.iter().all(super::pattern::HostPattern::is_loopback),
        (_, []) => own_ports_within(&wide.ports, later),
        (wide, narrow) => within(narrow, wide),
    };
    let networks = match (wide.networks.as_slice(), narrow.networks.as_slice()) {
        ([], narrow) => narrow.iter().all(|chain| !chain.is_testnet()),
        (wide, narrow) => !narrow.is_empty() && within(narrow, wide),
    };
    hosts_within(wide, narrow)
        && ports
        && networks
        && same_request(wide, narrow)
        && (earlier.plain_http || !later.plain_http)
        && within_or_any(&narrow.assets, &wide.assets)
        && within_or_any(&later.protocols, &earlier.protocols)
        && within_or_any(&later.schemes, &earlier.schemes)
        && within(&later.flows, &earlier.flows)
        && within(&later.transfer, &earlier.transfer)
        && (earlier.pay_to != PayTo::Listed || (later.pay_to == PayTo::Listed && within(&narrow.payees, &wide.payees)))
}

/// True if the scheme's own ports, which an entry without `ports` means, all stand in `listed`.
fn own_ports_within(listed: &[u16], entry: &Allow) -> bool {
    let loopback = entry.target.hosts.iter().any(|h| h.is_loopback() || *h == super::pattern::HostPattern::Any);
    !loopback && listed.contains(&443) && (!entry.plain_http || listed.contains(&80))
}

fn hosts_within(wide: &Target, narrow: &Target) -> bool {
    !narrow.hosts.is_empty() && narrow.hosts.iter().all(|host| wide.hosts.iter().any(|w| w.covers(host)))
}

fn same_request(wide: &Target, narrow: &Target) -> bool {
    let covered = |path| wide.paths.iter().any(|w| w.covers(path));
    let paths = wide.paths.is_empty() || (!narrow.paths.is_empty() && narrow.paths.iter().all(covered));
    paths && within_or_any(&narrow.methods, &wide.methods)
}

fn within<T: PartialEq>(narrow: &[T], wide: &[T]) -> bool {
    narrow.iter().all(|value| wide.contains(value))
}

/// [`within`], where an empty list means any.
fn within_or_any<T: PartialEq>(narrow: &[T], wide: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && within(narrow, wide))
}
