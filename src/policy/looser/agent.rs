//! One agent under two policies.

use std::sync::Arc;
use std::time::Duration;

use super::Findings;
use crate::policy::hours::Hours;
use crate::policy::rule::{Agent, Limits, Rate};
use crate::policy::rules::Rule;
use crate::policy::sessions::Sessions;

impl Findings {
    pub(super) fn agent(&mut self, new: &Agent, old: Option<&Agent>) {
        let Some(old) = old else {
            if !new.allow.is_empty() || new.unmatched.is_some() {
                self.say("", "the agent is new and may pay");
            }
            return;
        };
        let Agent {
            limits,
            host_day,
            payee_day,
            allow: _,
            deny,
            rules,
            hours,
            sessions,
            unmatched,
            // Compared with the budgets: who draws on one follows from its members.
            budgets: _,
        } = new;
        self.limits(limits, &old.limits);
        self.under("caps", |f| {
            f.payment_cap("per_host_day", old.host_day.as_ref(), host_day.as_ref());
            f.payment_cap("per_payee_day", old.payee_day.as_ref(), payee_day.as_ref());
        });
        self.under("allow", |f| f.entries(new, old));
        self.under("deny", |f| f.denials(deny, &old.deny));
        self.under("rules", |f| f.rules(rules, &old.rules));
        self.hours(hours.as_ref(), old.hours.as_ref());
        self.sessions(sessions.as_ref(), old.sessions.as_ref());
        match (&old.unmatched, unmatched) {
            (_, None) => {}
            (Some((before, old)), Some((group, new))) if before == group => self.entry(new, old),
            _ => self.say("", "other people are asked about what no entry takes (defaults.unmatched)"),
        }
    }

    pub(super) fn limits(&mut self, new: &Limits, old: &Limits) {
        let Limits { scope: _, per_payment, caps, rates } = new;
        self.under("caps", |f| {
            f.payment_cap("per_payment", old.per_payment.as_ref(), per_payment.as_ref());
            f.caps(&old.caps, caps);
        });
        self.under("rate", |f| {
            for Rate { rule, span_ms, limit } in &old.rates {
                let now = rates.iter().find(|r| r.span_ms == *span_ms).map(|r| r.limit);
                f.at_most(rule.0.rsplit('.').next().unwrap_or_default(), Some(*limit), now);
            }
        });
    }

    /// A rule only ever denies or asks, so one more is tighter.
    fn rules(&mut self, new: &[Arc<Rule>], old: &[Arc<Rule>]) {
        for rule in old {
            let Rule { id, when, ask } = &**rule;
            let as_strict = |now: &Arc<Rule>| now.when == *when && (now.ask.is_none() || now.ask == *ask);
            if new.iter().any(as_strict) {
                continue;
            }
            let text = match new.iter().find(|now| now.id == *id) {
                None => "the rule is gone",
                Some(now) if now.when == *when => "it asks now, or asks other people",
                Some(_) => "the condition is another one",
            };
            self.say(&id.0, text);
        }
    }

    fn hours(&mut self, new: Option<&Hours>, old: Option<&Hours>) {
        match (old, new) {
            (Some(old), Some(new)) if !new.is_within(old) => self.say("hours", "payments at other times"),
            (Some(_), None) => self.say("hours", "payments at any time"),
            _ => {}
        }
    }

    fn sessions(&mut self, new: Option<&Sessions>, old: Option<&Sessions>) {
        let Some(old) = old else { return };
        let Some(Sessions { required, max, expires, open }) = new else { return self.say("sessions", "are no longer limited") };
        self.under("sessions", |f| {
            if old.required && !required {
                f.say("required", "names that no operator issued are let in");
            }
            f.at_most("max", old.max, *max);
            f.at_most("open", Some(old.open), Some(*open));
            // A longer life spends longer, a shorter one makes room for the next name sooner.
            if *expires != old.expires {
                f.say("expires", format!("from {} to {}", seconds(old.expires), seconds(*expires)));
            }
        });
    }
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
