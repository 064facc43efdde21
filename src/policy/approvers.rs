//! `approvers`: the groups of people a payment can be put to (M2.6, M3.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::read::{Report, count, duration, fields, shown, texts};
use super::yaml::{Pair, Pos};

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverGroup {
    /// Its name.
    pub name: Arc<str>,
    /// How many of its people have to say yes.
    pub quorum: u32,
    /// How long a ticket that is put to it lives.
    pub timeout: Duration,
    /// The shared budgets that its yes may exceed (M2.6); these must say `over: ask`.
    pub may_exceed: Vec<Arc<str>>,
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
        let map = fields(&pair.value, &place, &["quorum", "timeout", "may_exceed"], report)?;
        let name: Arc<str> = pair.key.as_str().into();
        let quorum = map.get("quorum").and_then(|n| count(n, &format!("{place}.quorum"), 20, report)).unwrap_or(1);
        if let Some(node) = map.get("quorum").filter(|_| quorum == 0) {
            report.error(&node.at, format!("{place}.quorum: nobody would have to say yes: write 1 or more"));
        }
        let timeout = map.get("timeout").and_then(|n| duration(n, &format!("{place}.timeout"), report));
        let timeout = timeout.unwrap_or(Duration::from_secs(600));
        let mut may_exceed = Vec::new();
        if let Some(node) = map.get("may_exceed") {
            for (budget, at) in texts(node, &format!("{place}.may_exceed"), report) {
                may_exceed.push(Arc::from(budget));
                self.exceeds.push((Arc::clone(&name), budget.into(), at.clone()));
            }
        }
        Some(ApproverGroup { name, quorum, timeout, may_exceed })
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
