//! `approvers`: the groups of people a payment can be put to (M2.6, M3.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::entry::name_text;
use super::read::{Report, count, duration, each, fields, money, shown, texts};
use super::watching::{Found, found};
use super::yaml::{Node, Pair, Pos};
use crate::payment::MicroUsd;

/// Where a group hears of questions (S21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAt {
    /// https, or http to this machine; it may carry a key, so it is never written out in a policy.
    pub url: Found,
    /// Signs what is sent.
    pub secret: Found,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverGroup {
    /// Its name.
    pub name: Arc<str>,
    /// How many of its people have to say yes.
    pub quorum: u32,
    /// Their names, as in `admin.tokens`; `None` is everybody who may approve.
    pub members: Option<Vec<Arc<str>>>,
    /// How long a ticket that is put to it lives.
    pub timeout: Duration,
    /// The shared budgets that its yes may exceed (M2.6); these must say `over: ask`.
    pub may_exceed: Vec<Arc<str>>,
    /// Where it hears of questions; `None` is nowhere but in `tollpass approvals list`.
    pub webhook: Option<WebhookAt>,
    /// Above this a yes of its people needs a code beside the token.
    pub second_factor: Option<MicroUsd>,
}

/// The groups, and where each says what it may exceed.
#[derive(Default)]
pub(super) struct Approvers {
    pub(super) groups: BTreeMap<Arc<str>, ApproverGroup>,
    pub(super) exceeds: Vec<(Arc<str>, Arc<str>, Pos)>,
}

impl Approvers {
    /// Reads the sections of all files.
    pub(super) fn read(pairs: &[&Pair], report: &mut Report) -> Self {
        let mut all = Self::default();
        for pair in pairs {
            if let Some(group) = all.group(pair, report) {
                all.groups.insert(Arc::clone(&group.name), group);
            }
        }
        all
    }

    fn group(&mut self, pair: &Pair, report: &mut Report) -> Option<ApproverGroup> {
        let place = format!("approvers.{}", shown(&pair.key));
        let map = fields(&pair.value, &place, &["quorum", "members", "timeout", "may_exceed", "webhook", "second_factor"], report)?;
        let name: Arc<str> = pair.key.as_str().into();
        let quorum = map.get("quorum").and_then(|n| count(n, &format!("{place}.quorum"), 20, report)).unwrap_or(1);
        if let Some(node) = map.get("quorum").filter(|_| quorum == 0) {
            report.error(&node.at, format!("{place}.quorum: nobody would have to say yes: write 1 or more"));
        }
        let timeout = map.get("timeout").and_then(|n| duration(n, &format!("{place}.timeout"), report));
        let timeout = timeout.unwrap_or(Duration::from_secs(600));
        let members: Option<Vec<Arc<str>>> =
            map.get("members").map(|n| each(n, &format!("{place}.members"), report, |t| name_text(t).map(Into::into)));
        if let (Some(node), Some(members)) = (map.get("members"), &members)
            && usize::try_from(quorum).is_ok_and(|quorum| quorum > members.len())
        {
            report.error(
                &node.at,
                format!("{place}.members: {} people can never be a quorum of {quorum}: name more, or lower `quorum`", members.len()),
            );
        }
        let mut may_exceed = Vec::new();
        if let Some(node) = map.get("may_exceed") {
            for (budget, at) in texts(node, &format!("{place}.may_exceed"), report) {
                may_exceed.push(Arc::from(budget));
                self.exceeds.push((Arc::clone(&name), budget.into(), at.clone()));
            }
        }
        let webhook = map.get("webhook").and_then(|node| webhook(node, &format!("{place}.webhook"), report));
        let second_factor = map.get("second_factor").and_then(|node| second_factor(node, &format!("{place}.second_factor"), report));
        Some(ApproverGroup { name, quorum, members, timeout, may_exceed, webhook, second_factor })
    }

    /// The group of this name, or what to write instead.
    pub(super) fn find(&self, name: &str) -> Result<Arc<str>, String> {
        self.groups.get_key_value(name).map(|(name, _)| Arc::clone(name)).ok_or_else(|| {
            let known: Vec<&str> = self.groups.keys().map(|k| &**k).collect();
            let known = if known.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", known.join(", ")) };
            format!("there is no group `{}` of approvers; {known}: add it under `approvers`", shown(name))
        })
    }
}

fn webhook(node: &Node, place: &str, report: &mut Report) -> Option<WebhookAt> {
    let map = fields(node, place, &["url", "secret"], report)?;
    // A webhook's URL is as good as a password to the channel it leads to.
    let url = found(&map, &format!("{place}.url"), "write `url: env:APPROVAL_HOOK` or file:PATH", false, report);
    let secret = found(&map, &format!("{place}.secret"), "write `secret: env:APPROVAL_SECRET` or file:PATH", false, report);
    Some(WebhookAt { url: url?, secret: secret? })
}

fn second_factor(node: &Node, place: &str, report: &mut Report) -> Option<MicroUsd> {
    let map = fields(node, place, &["above"], report)?;
    let Some(above) = map.get("above") else {
        report.error(map.at, format!("{place}: `above` is missing: write `second_factor: {{ above: 10.00 }}`, or 0 for every yes"));
        return None;
    };
    money(above, &format!("{place}.above"), report)
}
