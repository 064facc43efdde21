//! A decision for people and for scripts: what was asked, every limit with its numbers, the verdict and why.

use std::fmt;

use serde::Serialize;

use super::{Considered, Decision, Input, Policy, Refusal, Violation};
use crate::payment::{Challenge, MicroUsd, Offer};

/// A rendered [`Decision`]: `Display` gives lines of text, [`Explanation::to_json`] the same as JSON. Amounts are decimal
/// text, never floats; nothing in it was written by the seller.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The caller.
    pub agent: String,
    /// Method and URL without the query.
    pub request: String,
    /// `pay`, `ask` (people are asked) or `refuse`.
    pub verdict: &'static str,
    /// The policy that decided.
    pub policy: String,
    /// The offer that is paid and how; none when refused.
    pub pays: Option<Pays>,
    /// Every reason, the most telling first; empty when paid.
    pub reasons: Vec<Why>,
    /// Everything that was looked at, in the seller's order.
    pub offers: Vec<Looked>,
}

/// The approved payment.
#[derive(Clone, Debug, Serialize)]
pub struct Pays {
    /// Position in the seller's list.
    pub offer: usize,
    /// The allow entry.
    pub rule: String,
    /// Price in US dollars.
    pub amount_usd: String,
    /// Validity window granted, seconds.
    pub lifetime_s: u64,
}

/// One offer, what was compared and what speaks against it.
#[derive(Clone, Debug, Serialize)]
pub struct Looked {
    /// Position in the seller's list.
    pub offer: usize,
    /// Price, asset, network and payee; none for an entry that could not be read.
    pub terms: Option<Terms>,
    /// The allow entry that matched.
    pub rule: Option<String>,
    /// Limits.
    pub checks: Vec<Line>,
    /// Reasons against it.
    pub reasons: Vec<Why>,
}

/// The terms of an offer.
#[derive(Clone, Debug, Serialize)]
pub struct Terms {
    /// Price in US dollars.
    pub amount_usd: String,
    /// Symbol from our table.
    pub asset: String,
    /// CAIP-2.
    pub network: String,
    /// Address.
    pub payee: String,
}

/// One limit with its numbers: US dollars as decimal text, or counts.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The cap or rate.
    pub rule: String,
    /// Spent or counted before this payment.
    pub spent: String,
    /// The limit.
    pub limit: String,
    /// Whether this payment fits.
    pub ok: bool,
}

/// One reason with its numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The stable code.
    pub reason: &'static str,
    /// One sentence.
    pub explain: &'static str,
    /// The rule that spoke.
    pub rule: Option<String>,
    /// The offer it is about.
    pub offer: Option<usize>,
    /// The limit in US dollars.
    pub limit_usd: Option<String>,
    /// What is left of it.
    pub remaining_usd: Option<String>,
    /// When that changes.
    pub resets_at: Option<String>,
}

impl Decision {
    /// Renders this decision of `policy` about `input` and `challenge`.
    pub fn explain(&self, policy: &Policy, input: &Input<'_>, challenge: &Challenge) -> Explanation {
        let scheme = if input.https { "https" } else { "http" };
        let mut offers: Vec<Looked> = self.considered.iter().map(|c| looked(c, challenge)).collect();
        offers.sort_by_key(|o| o.offer);
        let pays = self.verdict.as_ref().ok().map(|a| Pays {
            offer: a.offer().index,
            rule: a.entry().to_string(),
            amount_usd: a.offer().price.to_string(),
            lifetime_s: a.lifetime().as_secs(),
        });
        let reasons = self.verdict.as_ref().err().map(|Refusal { violations, .. }| violations.iter().map(why).collect());
        Explanation {
            agent: input.agent.to_string(),
            request: format!("{} {scheme}://{}:{}{}", input.method, input.host, input.port, input.path),
            verdict: match (&pays, &self.question) {
                (Some(_), _) => "pay",
                (None, Some(_)) => "ask",
                (None, None) => "refuse",
            },
            policy: policy.digest().to_string(),
            pays,
            reasons: reasons.unwrap_or_default(),
            offers,
        }
    }
}

fn looked(considered: &Considered, challenge: &Challenge) -> Looked {
    let number = |value: i64, count: bool| if count { value.to_string() } else { MicroUsd::new(value).to_string() };
    let line = |c: &super::CheckResult| Line {
        rule: c.rule.to_string(),
        spent: number(c.spent, c.count),
        limit: number(c.limit, c.count),
        ok: c.ok,
    };
    Looked {
        offer: considered.offer,
        terms: challenge.offers.iter().find(|o| o.index == considered.offer).map(terms),
        rule: considered.entry.as_ref().map(ToString::to_string),
        checks: considered.checks.iter().map(line).collect(),
        reasons: considered.violations.iter().map(why).collect(),
    }
}

fn terms(offer: &Offer) -> Terms {
    Terms {
        amount_usd: offer.price.to_string(),
        asset: offer.asset.symbol.clone(),
        network: offer.asset.id.chain.to_string(),
        payee: offer.payee.0.to_string(),
    }
}

fn why(v: &Violation) -> Why {
    let money = |m: Option<MicroUsd>| m.map(|m| m.to_string());
    Why {
        reason: v.reason.as_str(),
        explain: v.reason.explain(),
        rule: v.rule.as_ref().map(ToString::to_string),
        offer: v.offer,
        limit_usd: money(v.limit),
        remaining_usd: money(v.remaining),
        resets_at: v.resets_at.map(crate::payment::Timestamp::rfc3339),
    }
}

impl Explanation {
    /// The same as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "agent    {}", self.agent)?;
        writeln!(f, "request  {}", self.request)?;
        match &self.pays {
            Some(p) => writeln!(f, "verdict  pay {} USD, offer {}, rule {}, valid for {} s", p.amount_usd, p.offer, p.rule, p.lifetime_s)?,
            None => writeln!(f, "verdict  {}: {}", self.verdict, self.reasons.first().map_or("internal", |w| w.reason))?,
        }
        for offer in &self.offers {
            writeln!(f)?;
            write!(f, "{offer}")?;
        }
        if self.offers.is_empty() {
            for reason in &self.reasons {
                writeln!(f, "{reason}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offer {}", self.offer)?;
        if let Some(t) = &self.terms {
            write!(f, "  {} USD in {} on {} to {}", t.amount_usd, t.asset, t.network, t.payee)?;
        }
        writeln!(f, "  [{}]", self.rule.as_deref().unwrap_or("no entry"))?;
        for check in &self.checks {
            let verdict = if check.ok { "ok" } else { "NO" };
            writeln!(f, "  {verdict}  {:<32} {:>12} of {:>12}", check.rule, check.spent, check.limit)?;
        }
        self.reasons.iter().try_for_each(|reason| writeln!(f, "{reason}"))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  -   {}", self.reason)?;
        if let Some(rule) = &self.rule {
            write!(f, " ({rule})")?;
        }
        write!(f, ": {}", self.explain)?;
        if let (Some(limit), Some(left)) = (&self.limit_usd, &self.remaining_usd) {
            write!(f, " Left {left} of {limit} USD.")?;
        } else if let Some(limit) = &self.limit_usd {
            write!(f, " Limit {limit} USD.")?;
        }
        self.resets_at.as_ref().map_or(Ok(()), |at| write!(f, " Changes at {at}."))
    }
}
