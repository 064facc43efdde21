//! `approvers`: the groups of people a payment can be put to (M2.6, M3.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::read::{Report, count, duration, each, fields, shown};
use super::yaml::Pair;

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

/// Groups by name.
pub(super) type Approvers = BTreeMap<Arc<str>, ApproverGroup>;

/// Reads the sections of all files.
pub(super) fn read(pairs: &[&Pair], report: &mut Report) -> Approvers {
    pairs.iter().filter_map(|pair| group(pair, report)).map(|g| (Arc::clone(&g.name), g)).collect()
}

fn group(pair: &Pair, report: &mut Report) -> Option<ApproverGroup> {
    let place = format!("approvers.{}", shown(&pair.key));
    let map = fields(&pair.value, &place, &["quorum", "timeout", "may_exceed"], report)?;
    let quorum = map.get("quorum").and_then(|n| count(n, &format!("{place}.quorum"), 20, report)).unwrap_or(1);
    if quorum == 0 {
        report.error(map.at, format!("{place}.quorum: nobody would have to say yes: write 1 or more"));
    }
    let timeout = map.get("timeout").and_then(|n| duration(n, &format!("{place}.timeout"), report)).unwrap_or(Duration::from_secs(600));
    let may_exceed = map.get("may_exceed").map(|n| each(n, &format!("{place}.may_exceed"), report, |t| Ok(t.into()))).unwrap_or_default();
    Some(ApproverGroup { name: pair.key.as_str().into(), quorum, timeout, may_exceed })
}
