//! The closed list of what a condition can look at (M3.7), and where each value comes from. Counters are read when they are asked for.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Value, scores};
use crate::payment::{MicroUsd, Offer};
use crate::policy::context::{self, ContextKeys, Kind};
use crate::policy::{History, Input, RuleId, Scope, Span, View, Window};

/// What the types of [`Value`] are called in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Money,
    Count,
    Score,
    Text,
    Flag,
}

impl Type {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Money => "an amount of money",
            Self::Count => "a whole number",
            Self::Score => "a score",
            Self::Text => "a text",
            Self::Flag => "true or false",
        }
    }
}

/// A field of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    Host,
    Port,
    Path,
    Protocol,
    Scheme,
    Flow,
    Network,
    Asset,
    Payee,
    Amount,
    Price,
    Agent,
    SessionName,
    SessionSpent,
    SessionRemaining,
    Spent(Window),
    HistoryCount,
    HistoryMedian,
    HistoryLast,
    HistoryFirst,
    Now,
    Challenge(Arc<str>),
    Context(Arc<str>, Kind),
}

/// Fields by their names, with their types; `true` may be absent.
pub(super) const FIELDS: [(&str, &str, Field, Type, bool); 24] = {
    use Field as F;
    use Type as T;
    [
        ("request", "method", F::Method, T::Text, false),
        ("request", "host", F::Host, T::Text, false),
        ("request", "port", F::Port, T::Count, false),
        ("request", "path", F::Path, T::Text, false),
        ("offer", "protocol", F::Protocol, T::Text, false),
        ("offer", "scheme", F::Scheme, T::Text, false),
        ("offer", "flow", F::Flow, T::Text, false),
        ("offer", "network", F::Network, T::Text, false),
        ("offer", "asset", F::Asset, T::Text, false),
        ("offer", "payee", F::Payee, T::Text, false),
        ("offer", "amount", F::Amount, T::Count, false),
        ("price", "usd", F::Price, T::Money, false),
        ("session", "name", F::SessionName, T::Text, true),
        ("session", "spent_usd", F::SessionSpent, T::Money, true),
        ("session", "remaining_usd", F::SessionRemaining, T::Money, true),
        ("spent", "hour", F::Spent(Window::Hour), T::Money, false),
        ("spent", "day", F::Spent(Window::Day), T::Money, false),
        ("spent", "week", F::Spent(Window::Week), T::Money, false),
        ("spent", "month", F::Spent(Window::Month), T::Money, false),
        ("spent", "total", F::Spent(Window::Total), T::Money, false),
        ("history", "count", F::HistoryCount, T::Count, false),
        ("history", "median_usd", F::HistoryMedian, T::Money, true),
        ("history", "last_usd", F::HistoryLast, T::Money, true),
        ("history", "first_usd", F::HistoryFirst, T::Money, true),
    ]
};

/// The type of a declared key.
pub(super) const fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Decimal => Type::Score,
        Kind::Integer => Type::Count,
        Kind::Text => Type::Text,
        Kind::Flag => Type::Flag,
    }
}

/// A declared key as a field.
pub(super) fn context_field(name: &str, keys: &ContextKeys) -> Option<(Field, Type)> {
    let kind = keys.kind(name)?;
    Some((Field::Context(name.into(), kind), type_of(kind)))
}

/// What a condition is evaluated over: one request, one offer, one view of the books.
pub(in crate::policy) struct Facts<'a> {
    pub(in crate::policy) input: &'a Input<'a>,
    pub(in crate::policy) offer: &'a Offer,
    pub(in crate::policy) price: MicroUsd,
    /// The allow entry, whose history counts.
    pub(in crate::policy) entry: Option<&'a RuleId>,
    /// The agent's counter.
    pub(in crate::policy) scope: &'a Scope,
    pub(in crate::policy) session_max: Option<MicroUsd>,
    pub(in crate::policy) span: &'a dyn Fn(Window) -> Span,
    pub(in crate::policy) books: &'a dyn View,
}

impl Facts<'_> {
    fn session_spent(&self) -> Option<MicroUsd> {
        let scope = Scope::Session(self.input.agent.clone(), self.input.session?.clone());
        Some(self.books.spent(&scope, Span::ALL))
    }

    fn history(&self) -> History {
        let input = self.input;
        self.entry.map_or_else(History::default, |e| self.books.history(input.agent, e, input.host, input.method, input.now))
    }
}

impl Field {
    /// True for what payments change.
    pub(super) const fn reads_books(&self) -> bool {
        match self {
            Self::SessionSpent
            | Self::SessionRemaining
            | Self::Spent(_)
            | Self::HistoryCount
            | Self::HistoryMedian
            | Self::HistoryLast
            | Self::HistoryFirst => true,
            Self::Method
            | Self::Host
            | Self::Port
            | Self::Path
            | Self::Protocol
            | Self::Scheme
            | Self::Flow
            | Self::Network
            | Self::Asset
            | Self::Payee
            | Self::Amount
            | Self::Price
            | Self::Agent
            | Self::SessionName
            | Self::Now
            | Self::Challenge(_)
            | Self::Context(..) => false,
        }
    }

    /// The value for these facts; `None` if there is none.
    pub(super) fn value<'a>(&self, facts: &'a Facts<'_>) -> Option<Value<'a>> {
        let (input, offer) = (facts.input, facts.offer);
        let text = |t: &'a str| Value::Text(Cow::Borrowed(t));
        let money = |m: MicroUsd| Value::Money(m.micro());
        let history = |pick: fn(History) -> Option<MicroUsd>| pick(facts.history()).map(money);
        Some(match self {
            Self::Method => text(input.method.as_str()),
            Self::Host => Value::Text(input.host.to_string().into()),
            Self::Port => Value::Count(input.port.into()),
            Self::Path => text(input.path),
            Self::Protocol => text(offer.protocol.as_str()),
            Self::Scheme => text(offer.scheme.as_str()),
            Self::Flow => text(offer.flow.as_str()),
            Self::Network => Value::Text(offer.asset.id.chain.to_string().into()),
            Self::Asset => text(&offer.asset.symbol),
            Self::Payee => Value::Text(format!("{:#x}", offer.payee.0).into()),
            Self::Amount => Value::Count(i64::try_from(offer.amount.atomic()).ok()?),
            Self::Price => money(facts.price),
            Self::Agent => text(input.agent.as_str()),
            Self::SessionName => text(input.session?.as_str()),
            Self::SessionSpent => money(facts.session_spent()?),
            Self::SessionRemaining => money(facts.session_max?.saturating_sub(facts.session_spent()?).max(MicroUsd::ZERO)),
            Self::Spent(window) => money(facts.books.spent(facts.scope, (facts.span)(*window))),
            Self::HistoryCount => Value::Count(facts.history().count.into()),
            Self::HistoryMedian => history(|h| (h.count > 0).then_some(h.median))?,
            Self::HistoryLast => history(|h| (h.count > 0).then_some(h.last))?,
            Self::HistoryFirst => history(|h| h.first)?,
            Self::Now => Value::Count(input.now.secs()),
            Self::Challenge(name) => Value::Score(scores::find(offer, name)?),
            Self::Context(name, _) => match input.context.get(name)? {
                context::Value::Decimal(d) => Value::Score(*d),
                context::Value::Integer(n) => Value::Count(*n),
                context::Value::Text(t) => text(t),
                context::Value::Flag(f) => Value::Flag(*f),
            },
        })
    }
}
