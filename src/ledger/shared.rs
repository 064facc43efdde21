//! Counters that several agents share: which lists of agents the policy in force names, and how a new list starts from history (M2.2).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::counters::Money;
use crate::payment::AgentId;
use crate::policy::{Members, Scope};

/// The lists of agents that are counted together.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// In their own order, each once.
    lists: Vec<Members>,
    /// Positions in `lists`, by agent: a posting looks at no others.
    of: HashMap<AgentId, Vec<usize>>,
}

impl Shares {
    /// The counters that a payment of `agent` for `customer` is posted to: everybody's, its own, and those of its lists; each in
    /// whole and for the customer. Without a customer it is the nameless one's (M3.7).
    pub(super) fn scopes(&self, agent: &AgentId, customer: Option<&Arc<str>>, all: &mut Vec<Scope>) {
        let customer = customer.cloned().unwrap_or_default();
        let listed = self.of.get(agent).into_iter().flatten().filter_map(|i| self.lists.get(*i)).cloned();
        for members in [Members::ALL, Members::of([agent.clone()])].into_iter().chain(listed) {
            all.push(Scope::Shared(members.clone(), None));
            all.push(Scope::Shared(members, Some(Arc::clone(&customer))));
        }
    }

    /// Follows the lists of another policy. What is new is summed up from its members' own counters, what is gone is dropped.
    pub(super) fn follow(&mut self, lists: impl IntoIterator<Item = Members>, money: &mut HashMap<Scope, Money>) {
        // One agent alone is always counted: that is where the sums of lists come from.
        let lists: BTreeSet<Members> = lists.into_iter().filter(|m| m.listed().is_some_and(|a| a.len() > 1)).collect();
        let (gone, new): (HashSet<&Members>, Vec<&Members>) = (
            self.lists.iter().filter(|old| !lists.contains(old)).collect(),
            lists.iter().filter(|new| self.lists.binary_search(new).is_err()).collect(),
        );
        if !gone.is_empty() {
            money.retain(|scope, _| !matches!(scope, Scope::Shared(members, _) if gone.contains(members)));
        }
        if !new.is_empty() {
            sum_up(&new, money);
        }
        self.of.clear();
        for (i, members) in lists.iter().enumerate() {
            members.listed().unwrap_or_default().iter().for_each(|agent| self.of.entry(agent.clone()).or_default().push(i));
        }
        self.lists = lists.into_iter().collect();
    }
}

/// One pass over all counters, however many lists there are: payments wait for it.
fn sum_up(new: &[&Members], money: &mut HashMap<Scope, Money>) {
    let mut of: HashMap<&AgentId, Vec<&Members>> = HashMap::new();
    for members in new {
        members.listed().unwrap_or_default().iter().for_each(|agent| of.entry(agent).or_default().push(members));
    }
    let mut sums: HashMap<Scope, Money> = HashMap::new();
    for (scope, own) in money.iter() {
        let Scope::Shared(one, customer) = scope else { continue };
        let Some([agent]) = one.listed() else { continue };
        for members in of.get(agent).into_iter().flatten() {
            sums.entry(Scope::Shared(Members::clone(members), customer.clone())).or_default().add_all(own);
        }
    }
    money.extend(sums);
}
