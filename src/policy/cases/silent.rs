//! Which limits and rules of a policy no case made speak: what is never seen to say no may be written wrong.

use std::collections::BTreeSet;

use crate::payment::AgentId;
use crate::policy::rule::{Agent, Limits};
use crate::policy::{Decision, Policy};

/// What has spoken so far, over the cases of one policy.
#[derive(Debug, Default)]
pub struct Spoken(BTreeSet<(AgentId, String)>);

impl Spoken {
    /// Notes everything that spoke against some offer, also where something else decided.
    pub(super) fn note(&mut self, agent: &AgentId, decision: &Decision) {
        for considered in &decision.considered {
            let said = considered.violations.iter().chain(considered.asks.iter().map(|(_, violation)| violation));
            self.0.extend(said.filter_map(|v| Some((agent.clone(), v.rule.as_ref()?.to_string()))));
        }
    }

    /// The limits and rules of `policy` that said nothing, by agent; the shared budgets stand together at the end.
    pub fn silent(&self, policy: &Policy) -> Vec<(String, Vec<String>)> {
        let mut silent = Vec::new();
        for (name, agent) in policy.names.iter().filter_map(|name| Some((name, policy.agents.get(name)?))) {
            let quiet = limits_of(agent).into_iter().filter(|rule| !self.0.contains(&(name.clone(), rule.clone())));
            silent.push((name.to_string(), quiet.collect()));
        }
        let spoke = |rule: &String| self.0.iter().any(|(_, r)| r == rule);
        silent.push(("budgets".to_owned(), policy.budgets.iter().map(|b| b.rule.to_string()).filter(|rule| !spoke(rule)).collect()));
        silent.retain(|(_, rules): &(String, Vec<String>)| !rules.is_empty());
        silent
    }
}

/// Everything of an agent that can say no, or ask, under a name of its own.
fn limits_of(agent: &Agent) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(agent.deny.iter().map(|d| d.id.to_string()));
    rules.extend(agent.hours.as_ref().map(|_| "hours".to_owned()));
    limits(&agent.limits, &mut rules);
    rules.extend(agent.host_day.iter().chain(&agent.payee_day).map(|cap| cap.rule.to_string()));
    for entry in &agent.allow {
        rules.extend(entry.max.as_ref().map(|max| max.rule.to_string()));
        limits(&entry.limits, &mut rules);
    }
    rules.extend(agent.rules.iter().map(|r| r.id.to_string()));
    rules.extend(agent.sessions.as_ref().and_then(|s| s.max).map(|_| "session.max".to_owned()));
    rules
}

fn limits(limits: &Limits, rules: &mut Vec<String>) {
    rules.extend(limits.per_payment.as_ref().map(|cap| cap.rule.to_string()));
    rules.extend(limits.caps.iter().map(|cap| cap.rule.to_string()));
    rules.extend(limits.rates.iter().map(|rate| rate.rule.to_string()));
}
