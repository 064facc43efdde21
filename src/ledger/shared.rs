//! Counters that several agents share: which lists of agents the policy in force names, and how a new list starts from history (M2.2).

use std::collections::HashMap;
use std::sync::Arc;

use super::counters::Money;
use crate::payment::AgentId;
use crate::policy::{Members, Scope};

/// The lists of agents that are counted together.
#[derive(Debug, Default)]
pub(super) struct Shares {
    lists: Vec<Members>,
    /// Positions in `lists`, by agent: a posting looks at no others.
    of: HashMap<AgentId, Vec<usize>>,
}

impl Shares {
    /// The counters that a payment of `agent` for `customer` is posted to: everybody's, its own, and those of its lists; each in
    /// whole and for the customer. Without a customer it is the nameless one's (M3.7).
    pub(super) fn scopes(&self, agent: &AgentId, customer: Option<&Arc<str>>, all: &mut Vec<Scope>) {
        let customer = customer.cloned().unwrap_or_default();
        let listed = self.of.get(agent).into_iter().flatten().filter_map(|i| self.lists.get(*i));
        all.push(Scope::Shared(Members::of([agent.clone()]), Some(Arc::clone(&customer))));
        for members in std::iter::once(&Members::ALL).chain(listed) {
            all.push(Scope::Shared(members.clone(), None));
            all.push(Scope::Shared(members.clone(), Some(Arc::clone(&customer))));
        }
    }

    /// Follows the lists of another policy. What is new is summed up from its members' own counters, what is gone is dropped.
    pub(super) fn follow(&mut self, lists: impl IntoIterator<Item = Members>, money: &mut HashMap<Scope, Money>) {
        // One agent alone is always counted, by customer: that is where the sums of lists come from.
        let lists: Vec<Members> = lists.into_iter().filter(|m| m.listed().is_some_and(|a| a.len() > 1)).collect();
        for gone in self.lists.iter().filter(|old| !lists.contains(old)) {
            money.retain(|scope, _| !matches!(scope, Scope::Shared(members, _) if members == gone));
        }
        for members in lists.iter().filter(|new| !self.lists.contains(new)) {
            sum_up(members, money);
        }
        self.of.clear();
        for (i, members) in lists.iter().enumerate() {
            members.listed().unwrap_or_default().iter().for_each(|agent| self.of.entry(agent.clone()).or_default().push(i));
        }
        self.lists = lists;
    }
}

fn sum_up(members: &Members, money: &mut HashMap<Scope, Money>) {
    let part = |scope: &Scope| match scope {
        Scope::Shared(one, Some(customer)) => one
            .listed()
            .filter(|a| a.len() == 1 && members.contains(&a[0]))
            .map(|_| Scope::Shared(members.clone(), Some(Arc::clone(customer)))),
        _ => None,
    };
    let mut sums: HashMap<Scope, Money> = HashMap::new();
    for (scope, own) in money.iter() {
        if let Some(shared) = part(scope) {
            sums.entry(shared).or_default().add_all(own);
            sums.entry(Scope::Shared(members.clone(), None)).or_default().add_all(own);
        }
    }
    money.extend(sums);
}
