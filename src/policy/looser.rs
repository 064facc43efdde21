//! Is one policy looser than another? Asked where a change that lets more be paid needs a signature.
//!
//! The answer fails closed: what is not provably equal or tighter is looser. So that no key of the format is forgotten, every
//! structure is taken apart field by field: a new field does not compile until somebody has said here what makes it looser.

mod agent;
mod entry;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::budget::SharedBudget;
use super::cosigner::{Cosigner, Ring, Whose};
use super::egress::Egress;
use super::pattern::HostPattern;
use super::rule::{Cap, PaymentCap};
use super::watching::{Breaker, Velocity, Watching, is_list};
use super::yaml::{self, Node, Value};
use super::{Approver, ApproverGroup, ContextKeys, Policy, Risk, Source};
use crate::payment::{Asset, AssetTable};

/// One thing that a policy allows and another one does not, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looser {
    /// Where, as keys of the file: `agents`, `research-bot`, `caps`, `day`.
    pub path: Vec<String>,
    /// What changed.
    pub text: String,
}

impl fmt::Display for Looser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.text)
    }
}

impl Looser {
    /// File, line and column of the path in `sources`, as deep as it can be followed: what was removed is not there any more.
    pub fn place(&self, sources: &[Source]) -> Option<(String, usize, usize)> {
        let mut best: Option<(usize, (String, usize, usize))> = None;
        for source in sources.iter().filter(|s| !is_list(s)) {
            let Ok(root) = yaml::parse(&source.name, &source.text, &mut Vec::new()) else { continue };
            let (depth, node) = follow(&root, &self.path);
            if best.as_ref().is_none_or(|(d, _)| depth > *d) {
                best = Some((depth, (source.name.clone(), node.at.line, node.at.column)));
            }
        }
        best.map(|(_, place)| place)
    }

    /// The same as the beginning of a message, with the finding behind it.
    pub fn shown_in(&self, sources: &[Source]) -> String {
        self.place(sources).map_or_else(|| self.to_string(), |(file, line, column)| format!("{file}:{line}:{column}: {self}"))
    }
}

fn follow<'n>(root: &'n Node, path: &[String]) -> (usize, &'n Node) {
    let mut node = root;
    for (depth, key) in path.iter().enumerate() {
        let next = match &node.value {
            Value::Map(pairs) => pairs.iter().find(|p| p.key == *key).map(|p| &p.value),
            Value::List(items) => items.iter().find(|item| is_called(item, key)),
            Value::Null | Value::Text(_) => None,
        };
        match next {
            Some(next) => node = next,
            None => return (depth, node),
        }
    }
    (path.len(), node)
}

/// An item of a list, by what it is named with.
fn is_called(item: &Node, name: &str) -> bool {
    let Value::Map(pairs) = &item.value else { return false };
    let is = |node: &Node| matches!(&node.value, Value::Text(t) if t == name);
    ["id", "name", "host"].iter().find_map(|key| pairs.iter().find(|p| p.key == *key)).is_some_and(|p| is(&p.value))
}

/// Collects findings below one place.
struct Findings {
    all: Vec<Looser>,
    at: Vec<String>,
}

impl Findings {
    /// What `look` finds below `key`.
    fn under(&mut self, key: &str, look: impl FnOnce(&mut Self)) {
        self.at.push(key.to_owned());
        look(self);
        self.at.pop();
    }

    fn say(&mut self, key: &str, text: impl Into<String>) {
        let path = self.at.iter().cloned().chain((!key.is_empty()).then(|| key.to_owned())).collect();
        self.all.push(Looser { path, text: text.into() });
    }

    /// A number of which more lets more be paid; no bound is more than any.
    fn at_most<T: PartialOrd + fmt::Display>(&mut self, key: &str, old: Option<T>, new: Option<T>) {
        match (old, new) {
            (Some(old), Some(new)) if new > old => self.say(key, format!("raised from {old} to {new}")),
            (Some(old), None) => self.say(key, format!("the limit of {old} is gone")),
            _ => {}
        }
    }

    fn payment_cap(&mut self, key: &str, old: Option<&PaymentCap>, new: Option<&PaymentCap>) {
        let limit = |cap: &PaymentCap| {
            let PaymentCap { rule: _, limit } = cap;
            *limit
        };
        self.at_most(key, old.map(limit), new.map(limit));
    }

    /// A bound on one period proves nothing about another, however much smaller it is.
    fn caps(&mut self, old: &[Cap], new: &[Cap]) {
        for Cap { rule: _, period, limit } in old {
            let same = new.iter().find(|cap| cap.period == *period).map(|cap| cap.limit);
            let key = period.to_string();
            match key.split_once('.') {
                Some((rolling, span)) => self.under(rolling, |f| f.at_most(span, Some(*limit), same)),
                None => self.at_most(&key, Some(*limit), same),
            }
        }
    }
}

impl Policy {
    /// Everything that this policy may let be paid and `old` does not. Empty: it is the same, or tighter.
    pub fn looser_than(&self, old: &Self) -> Vec<Looser> {
        let mut found = Findings { all: Vec::new(), at: Vec::new() };
        let f = &mut found;
        let Self {
            // The text, its number, what is said about it, and how people and refusals are worded: no money.
            digest: _,
            epoch: _,
            warnings: _,
            names: _,
            refusal_body: _,
            hold: _,
            zone,
            assets,
            fresh,
            context,
            budgets,
            approvers,
            risk,
            egress,
            agents,
            cosigner,
        } = self;
        if *zone != old.zone {
            f.say("timezone", "another time zone: days and months begin at other times");
        }
        f.assets(assets, &old.assets);
        for (id, span) in &old.fresh {
            if fresh.get(id).is_some_and(|new| new.from < span.from || new.until > span.until) || !fresh.contains_key(id) {
                f.say("assets", format!("the price of {id} is believed at other times"));
            }
        }
        f.context(context, &old.context);
        f.budgets(budgets, &old.budgets);
        f.groups(approvers, &old.approvers);
        f.under("risk", |f| f.risk(risk, &old.risk));
        f.under("egress", |f| f.egress(egress, &old.egress));
        f.cosigner(cosigner.as_ref(), old.cosigner.as_ref());
        let mut ids: Vec<_> = agents.keys().collect();
        ids.sort();
        f.under("agents", |f| {
            for id in ids {
                f.under(id.as_str(), |f| f.agent(&agents[id], old.agents.get(id)));
            }
        });
        found.all
    }
}

impl Findings {
    fn assets(&mut self, new: &AssetTable, old: &AssetTable) {
        for asset in new.iter() {
            let Some(before) = old.get(&asset.id) else {
                self.say("assets", format!("{} is new", asset.id));
                continue;
            };
            let Asset { id, symbol: _, decimals, eip712, price } = &**asset;
            if (*decimals, eip712, price) != (before.decimals, &before.eip712, &before.price) {
                self.say("assets", format!("{id} is another token, or has another price"));
            }
        }
    }

    /// What a condition reads; one that reads a key of another kind is another condition, which is seen there.
    fn context(&mut self, new: &ContextKeys, old: &ContextKeys) {
        for name in old.names().filter(|name| new.kind(name) != old.kind(name)) {
            self.under("context", |f| f.say(name, "is no longer declared as it was"));
        }
    }

    fn budgets(&mut self, new: &[SharedBudget], old: &[SharedBudget]) {
        self.at.push("budgets".into());
        for SharedBudget { rule, limit, window, members, per_customer, askers } in old {
            let name = rule.0.strip_prefix("budget:").unwrap_or(&rule.0);
            let Some(now) = new.iter().find(|b| b.rule == *rule) else {
                self.say(name, "the budget is gone");
                continue;
            };
            self.under(name, |f| {
                f.at_most("limit", Some(*limit), Some(now.limit));
                if now.window != *window {
                    f.say("window", format!("from {} to {}", window.as_str(), now.window.as_str()));
                }
                let keeps = |listed: &[_]| listed.iter().all(|agent| now.members.contains(agent));
                if !members.listed().map_or_else(|| now.members.listed().is_none(), keeps) {
                    f.say("agents", "somebody's payments no longer count in it");
                }
                if now.per_customer && !per_customer {
                    f.say("per", "every customer has one of its own now");
                }
                if let Some(group) = now.askers.iter().find(|g| !askers.contains(g)) {
                    f.say("over", format!("the group `{group}` may exceed it now"));
                }
            });
        }
        self.at.pop();
    }

    fn groups(&mut self, new: &BTreeMap<Arc<str>, ApproverGroup>, old: &BTreeMap<Arc<str>, ApproverGroup>) {
        self.at.push("approvers".into());
        for (name, group) in new {
            // Who asks a group that is new is seen where it is asked.
            let Some(before) = old.get(name) else { continue };
            // Where it hears of questions lets nobody answer them.
            let ApproverGroup { name: _, quorum, members, timeout, may_exceed: _, webhook: _, second_factor } = group;
            self.under(name, |f| {
                if *quorum < before.quorum {
                    f.say("quorum", format!("lowered from {} to {quorum}", before.quorum));
                }
                let known = |list: &Vec<Arc<str>>| members.as_ref().is_some_and(|now| now.iter().all(|m| list.contains(m)));
                if !before.members.as_ref().is_none_or(known) {
                    f.say("members", "more people may say yes");
                }
                f.at_most("timeout", Some(before.timeout.as_secs()), Some(timeout.as_secs()));
                f.at_most("second_factor", before.second_factor, *second_factor);
            });
        }
        self.at.pop();
    }

    fn risk(&mut self, new: &Risk, old: &Risk) {
        let Risk { payee_change, watching, payees, hook } = new;
        if payee_change.is_some() && *payee_change != old.payee_change {
            self.say("payee_change", "other people may let another payee be paid");
        }
        let Watching { paid_but_failed, velocity, retry_loop } = watching;
        self.breaker("paid_but_failed", *paid_but_failed, old.watching.paid_but_failed);
        self.breaker("retry_loop", *retry_loop, old.watching.retry_loop);
        match (old.watching.velocity, *velocity) {
            (Some(_), None) => self.say("velocity", "is off now"),
            (Some(old), Some(Velocity { times, least, within, then })) => self.under("velocity", |f| {
                f.at_most("times", Some(old.times), Some(times));
                f.at_most("least", Some(old.least), Some(least));
                if (within, then) != (old.within, old.then) {
                    f.say("", "watches something else");
                }
            }),
            (None, _) => {}
        }
        if !payees.covers(&old.payees) {
            self.say("deny_payees", "somebody is no longer on a list");
        }
        if old.hook.is_some() && *hook != old.hook {
            self.say("hook", "another program is asked, or none");
        }
    }

    fn breaker(&mut self, key: &str, new: Option<Breaker>, old: Option<Breaker>) {
        match (old, new) {
            (Some(_), None) => self.say(key, "is off now"),
            (Some(old), Some(Breaker { count, within, then })) => self.under(key, |f| {
                f.at_most("count", Some(old.count), Some(count));
                if within < old.within {
                    f.say("within", "looks back less far");
                }
                if then != old.then {
                    f.say("then", "stops somebody else");
                }
            }),
            (None, _) => {}
        }
    }

    fn egress(&mut self, new: &Egress, old: &Egress) {
        let Egress { only_named, allow, deny } = new;
        let covered = |list: &[HostPattern], host: &HostPattern| list.iter().any(|p| p.covers(host));
        if old.only_named && !only_named {
            self.say("default", "everything may be connected to now");
        }
        if old.only_named && *only_named && !allow.iter().all(|host| covered(&old.allow, host)) {
            self.say("allow", "more may be connected to");
        }
        if !old.deny.iter().all(|host| covered(deny, host)) {
            self.say("deny", "something is no longer denied");
        }
    }

    fn cosigner(&mut self, new: Option<&Cosigner>, old: Option<&Cosigner>) {
        let (new, old) = match (new, old) {
            (None, None) => return,
            (Some(new), Some(old)) => (new, old),
            _ => return self.say("", "a policy of another kind of process"),
        };
        let Cosigner { rings, live, approvers } = new;
        let of = |rings: &'_ [Ring], whose: Whose| rings.iter().position(|r| r.whose == whose);
        for Ring { whose, per_payment, caps } in &old.rings {
            let now = of(rings, *whose).map(|i| &rings[i]);
            let (section, key) = match whose {
                Whose::Wallet => ("caps", "wallet"),
                Whose::Payee => ("caps", "payee"),
                Whose::Identity => ("caps", "identity"),
                // Without this budget nothing is signed for payees that nothing proves.
                Whose::Unverified if now.is_none() => continue,
                Whose::Unverified => ("unverified", ""),
            };
            self.under(section, |f| {
                let look = |f: &mut Self| {
                    f.payment_cap("per_payment", per_payment.as_ref(), now.and_then(|r| r.per_payment.as_ref()));
                    f.caps(caps, now.map_or(&[], |r| &r.caps));
                };
                if key.is_empty() { look(f) } else { f.under(key, look) }
            });
        }
        if of(rings, Whose::Unverified).is_some() && of(&old.rings, Whose::Unverified).is_none() {
            self.say("unverified", "payees that nothing proves can be paid now");
        }
        self.at_most("live", old.live.as_ref().map(|l| l.limit), live.as_ref().map(|l| l.limit));
        for Approver { name, keys, may_exceed, quorum } in approvers {
            let before = old.approvers.iter().find(|a| a.name == *name);
            let known = before.is_some_and(|b| {
                let within = keys.iter().all(|key| b.keys.contains(key)) && may_exceed.iter().all(|rule| b.may_exceed.contains(rule));
                within && *quorum >= b.quorum
            });
            if !known {
                self.under("approvers", |f| f.say(name, "may lift more than before"));
            }
        }
    }
}
