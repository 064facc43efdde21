//! Allow and deny entries under two policies.
//!
//! The first entry that takes a request decides its limits. So an entry that takes less can loosen as well: what it no longer
//! takes falls to an entry below it.

use super::Findings;
use super::agent::seconds;
use crate::payment::ChainId;
use crate::policy::RepeatRules;
use crate::policy::entry::Trust;
use crate::policy::pattern::{HostPattern, PathPattern};
use crate::policy::rule::{Agent, Allow, Deny, PayTo, Target};

impl Findings {
    pub(super) fn entries(&mut self, new: &Agent, old: &Agent) {
        let mut last = 0;
        for entry in &new.allow {
            let Some(place) = old.allow.iter().position(|e| e.id == entry.id) else {
                self.say(&entry.id.0, "the allow entry is new");
                continue;
            };
            if place < last {
                self.say(&entry.id.0, "stands in another order, and the first that takes a request decides");
            }
            last = last.max(place);
            self.under(&entry.id.0, |f| f.entry(entry, &old.allow[place]));
        }
        for (place, before) in old.allow.iter().enumerate() {
            let now = new.allow.iter().find(|e| e.id == before.id);
            if now.is_some_and(|now| takes_all_of(now, before)) {
                continue;
            }
            let below = old.allow[place + 1..].iter().filter_map(|e| new.allow.iter().find(|n| n.id == e.id));
            let below = below.chain(new.unmatched.iter().map(|(_, entry)| &**entry));
            if let Some(next) = below.into_iter().find(|next| !apart(before, next) && !is_as_strict(next, before)) {
                self.say(&before.id.0, format!("takes less, and what it no longer takes falls to `{}`, which has other limits", next.id));
            }
        }
    }

    /// The same entry, before and now.
    pub(super) fn entry(&mut self, new: &Allow, old: &Allow) {
        let Allow {
            id: _,
            target,
            plain_http,
            protocols,
            schemes,
            flows,
            transfer,
            pay_to,
            allow_zero,
            max,
            lifetime,
            limits,
            repeats,
            trust,
        } = new;
        self.target(target, &old.target, *plain_http);
        if *plain_http && !old.plain_http {
            self.say("plain_http", "is on now");
        }
        if *allow_zero && !old.allow_zero {
            self.say("allow_zero", "is on now");
        }
        let lists = [
            ("protocols", within(protocols, &old.protocols)),
            ("schemes", within(schemes, &old.schemes)),
            ("flows", flows.iter().all(|f| old.flows.contains(f))),
            ("transfer", transfer.iter().all(|t| old.transfer.contains(t))),
        ];
        lists.into_iter().filter(|(_, tighter)| !tighter).for_each(|(key, _)| self.say(key, "takes more"));
        // A list is compared as part of the target; whom a pin has found is not known here.
        let payee = matches!((old.pay_to, pay_to), (PayTo::Any, _) | (PayTo::Pinned, PayTo::Pinned) | (PayTo::Listed, PayTo::Listed));
        if !payee {
            self.say("pay_to", "somebody else can be paid");
        }
        self.payment_cap("max", old.max.as_ref(), max.as_ref());
        if *lifetime > old.lifetime {
            self.say("lifetime", format!("raised from {} to {}", seconds(old.lifetime), seconds(*lifetime)));
        }
        self.limits(limits, &old.limits);
        self.repeats(*repeats, old.repeats);
        self.trust(trust, &old.trust);
    }

    fn repeats(&mut self, new: RepeatRules, old: RepeatRules) {
        let RepeatRules { lost_hold, paid_redirects, share } = new;
        self.under("repeats", |f| {
            if lost_hold < old.lost_hold {
                f.say("lost_hold", format!("lowered from {} to {}", seconds(old.lost_hold), seconds(lost_hold)));
            }
            f.at_most("paid_redirects", Some(old.paid_redirects), Some(paid_redirects));
            if share != old.share {
                f.say("share", "changed");
            }
        });
    }

    /// Without any proof a payee draws on a budget of its own, so neither more nor fewer ways are tighter then.
    fn trust(&mut self, new: &Trust, old: &Trust) {
        let Trust { offer_keys, probe } = new;
        if new.is_empty() != old.is_empty() {
            self.say("", "the payee is proven in another way");
        }
        if !offer_keys.iter().all(|key| old.offer_keys.contains(key)) {
            self.say("offer_key", "another key speaks for the seller");
        }
        if *probe && !old.probe {
            self.say("probe", "is on now");
        }
    }

    fn target(&mut self, new: &Target, old: &Target, plain_http: bool) {
        let Target { hosts, ports, paths, methods, networks, assets, payees } = new;
        let lists = [
            ("host", hosts.iter().all(|host| old.hosts.iter().any(|o| o.covers(host)))),
            // No port is the scheme's own.
            ("ports", if old.ports.is_empty() { ports.is_empty() || (ports == &[443] && !plain_http) } else { within(ports, &old.ports) }),
            ("paths", old.paths.is_empty() || (!paths.is_empty() && paths.iter().all(|p| covered(p, &old.paths)))),
            ("methods", within(methods, &old.methods)),
            // No network is any that is not for tests.
            ("networks", within(networks, &old.networks) && !(old.networks.is_empty() && networks.iter().any(|n| ChainId::is_testnet(*n)))),
            ("assets", within(assets, &old.assets)),
            ("pay_to", within(payees, &old.payees)),
        ];
        lists.into_iter().filter(|(_, tighter)| !tighter).for_each(|(key, _)| self.say(key, "takes more"));
    }

    pub(super) fn denials(&mut self, new: &[Deny], old: &[Deny]) {
        for Deny { id, target } in old {
            if !new.iter().any(|deny| denies_all_of(&deny.target, target)) {
                let gone = new.iter().all(|deny| deny.id != *id);
                self.say(&id.0, if gone { "the deny entry is gone" } else { "denies less" });
            }
        }
    }
}

fn covered(path: &PathPattern, by: &[PathPattern]) -> bool {
    by.iter().any(|p| p.covers(path))
}

/// Everything in `new` is in `old`, where an empty list is everything.
fn within<T: PartialEq>(new: &[T], old: &[T]) -> bool {
    old.is_empty() || (!new.is_empty() && new.iter().all(|item| old.contains(item)))
}

/// Everything `old` takes is taken by `new`.
fn denies_all_of(new: &Target, old: &Target) -> bool {
    let Target { hosts, ports, paths, methods, networks, assets, payees } = new;
    let host = |host: &HostPattern| hosts.iter().any(|h| h.covers(host));
    (hosts.is_empty() || (!old.hosts.is_empty() && old.hosts.iter().all(host)))
        && (paths.is_empty() || (!old.paths.is_empty() && old.paths.iter().all(|p| covered(p, paths))))
        && within(&old.ports, ports)
        && within(&old.methods, methods)
        && within(&old.networks, networks)
        && within(&old.assets, assets)
        && within(&old.payees, payees)
}

/// Everything `before` took is taken by `now`.
fn takes_all_of(now: &Allow, before: &Allow) -> bool {
    let (new, old) = (&now.target, &before.target);
    let own_ports = new.ports.is_empty() == old.ports.is_empty();
    let no_testnet = || !old.networks.iter().any(|n| ChainId::is_testnet(*n));
    old.hosts.iter().all(|host| new.hosts.iter().any(|h| h.covers(host)))
        && (new.paths.is_empty() || (!old.paths.is_empty() && old.paths.iter().all(|p| covered(p, &new.paths))))
        && own_ports
        && within(&old.ports, &new.ports)
        && within(&old.methods, &new.methods)
        && within(&old.networks, &new.networks)
        && (!new.networks.is_empty() || no_testnet())
        && within(&old.assets, &new.assets)
        && within(&old.payees, &new.payees)
        && (now.plain_http || !before.plain_http)
        && within(&before.protocols, &now.protocols)
        && within(&before.schemes, &now.schemes)
        && before.flows.iter().all(|f| now.flows.contains(f))
        && before.transfer.iter().all(|t| now.transfer.contains(t))
}

/// No request is taken by both.
fn apart(a: &Allow, b: &Allow) -> bool {
    fn lists<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        !a.is_empty() && !b.is_empty() && !a.iter().any(|item| b.contains(item))
    }
    let (a, b) = (&a.target, &b.target);
    let hosts = |x: &HostPattern| b.hosts.iter().all(|y| !x.covers(y) && !y.covers(x));
    a.hosts.iter().all(hosts)
        || lists(&a.methods, &b.methods)
        || lists(&a.networks, &b.networks)
        || lists(&a.assets, &b.assets)
        || lists(&a.payees, &b.payees)
}

/// What falls to `next` meets nothing that is looser than in `before`. Counters and pins of one entry mean nothing to another.
fn is_as_strict(next: &Allow, before: &Allow) -> bool {
    let no_counters = before.limits.caps.is_empty() && before.limits.per_payment.is_none();
    let max = before.max.as_ref().is_none_or(|old| next.max.as_ref().is_some_and(|new| new.limit <= old.limit));
    let zero = before.allow_zero || !next.allow_zero;
    no_counters && max && zero && before.pay_to == PayTo::Any && next.lifetime <= before.lifetime && next.repeats == before.repeats
}
