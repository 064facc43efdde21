//! A decision on its way to the log: cheap to make where it was taken, turned into a line on the log's own thread.

use std::sync::Arc;

use super::row::{Decided, Offered, Token, Unread, VERSION, Verdict, Why};
use super::seen::Seen;
use crate::payment::{AgentId, AssetId, Challenge, MicroUsd, Offer, Payer, PurchaseId, SessionName, Timestamp};
use crate::policy::{Context, Host, Refusal, only_scores, zone_release};

/// Longest line, bytes: what a hostile seller can make us write for one request.
const MAX_LINE: usize = 16 << 10;

/// Longest path that a line which was cut still shows, bytes.
const MAX_PATH: usize = 512;

/// A decision as it was taken.
#[derive(Clone, Debug)]
pub struct Record {
    /// The caller.
    pub agent: AgentId,
    /// Its session.
    pub session: Option<SessionName>,
    /// Request method.
    pub method: http::Method,
    /// TLS towards the seller.
    pub https: bool,
    /// The host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Path without the query.
    pub path: String,
    /// What the request says of itself.
    pub context: Context,
    /// What the seller asks for.
    pub challenge: Challenge,
    /// Ledger time of the decision.
    pub now: Timestamp,
    /// Digest of the policy in force.
    pub policy: Arc<str>,
    /// The rest, if the policy was asked.
    pub judged: Option<Judgement>,
    /// Why it was refused, if it was.
    pub refused: Option<Refusal>,
    /// The purchase that was held for it.
    pub purchase: Option<PurchaseId>,
}

/// What a policy was asked with, and what it said.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The account that would pay.
    pub payer: Payer,
    /// What the purchase that is signed again holds.
    pub held: MicroUsd,
    /// The asset it is bound to.
    pub bound_to: Option<AssetId>,
    /// Groups whose people's yes was used.
    pub granted: Vec<Arc<str>>,
    /// The limit of an issued session.
    pub session_max: Option<MicroUsd>,
    /// How many paid answers led here, where that counts.
    pub chain: Option<u32>,
    /// What was read of the books.
    pub seen: Arc<Seen>,
    /// What the policy said.
    pub verdict: Verdict,
}

impl Record {
    /// The reason that leads a refusal, for counting.
    pub(super) fn reason(&self) -> Option<crate::payment::Reason> {
        self.refused.as_ref().map(Refusal::reason)
    }

    /// As a line, without a length.
    pub(super) fn to_row(&self) -> Decided {
        let j = self.judged.as_ref();
        let (assets, offers) = offers(&self.challenge);
        let own = |v: &Verdict| {
            v.say != super::row::Say::Allow && v.reasons.first().map(|w| w.reason.as_str()) == self.reason().map(|r| r.as_str())
        };
        // What the policy itself said is no other reason for the refusal.
        let refused = self.refused.as_ref().filter(|_| j.is_none_or(|j| !own(&j.verdict)));
        Decided {
            at: self.now.millis(),
            time: self.now.rfc3339_millis(),
            agent: self.agent.to_string(),
            session: self.session.as_ref().map(ToString::to_string),
            method: self.method.to_string(),
            https: self.https,
            host: self.host.to_string(),
            port: self.port,
            path: self.path.clone(),
            payer: j.map(|j| j.payer),
            held: j.map_or(0, |j| j.held.micro()),
            bound_to: j.and_then(|j| j.bound_to).map(|id| id.to_string()),
            context: self.context.clone(),
            protocol: self.challenge.protocol.as_str().to_owned(),
            assets,
            offers,
            rejected: self.challenge.rejected.iter().map(|r| Unread { index: r.index, reason: r.reason.as_str().to_owned() }).collect(),
            granted: j.map(|j| j.granted.clone()).unwrap_or_default(),
            session_max: j.and_then(|j| j.session_max).map(MicroUsd::micro),
            chain: j.and_then(|j| j.chain),
            read: j.map(|j| j.seen.to_read()),
            policy: Arc::clone(&self.policy),
            tz: zone_release().to_owned(),
            verdict: j.map(|j| j.verdict.clone()),
            refused: refused.and_then(|r| r.violations.first()).map(Why::from),
            purchase: self.purchase.map(|id| id.to_string()),
            ticket: self.refused.as_ref().and_then(|r| r.ticket.as_deref()).map(str::to_owned),
            cut: false,
            shadow: None,
        }
    }
}

/// The line's text, with its end. One that is too long leaves out what was offered and read: it still says who was paid or refused.
pub(super) fn text(mut row: Box<Decided>) -> String {
    let line = |row: &Decided| {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            v: u32,
            kind: &'static str,
            #[serde(flatten)]
            row: &'a Decided,
        }
        serde_json::to_string(&Line { v: VERSION, kind: "decision", row }).unwrap_or_default() + "\n"
    };
    let whole = line(&row);
    if whole.len() <= MAX_LINE {
        return whole;
    }
    row.cut = true;
    (row.read, row.assets, row.offers, row.rejected) = (None, Vec::new(), Vec::new(), Vec::new());
    row.path.truncate((0..=MAX_PATH.min(row.path.len())).rev().find(|n| row.path.is_char_boundary(*n)).unwrap_or(0));
    row.verdict.iter_mut().chain(row.shadow.iter_mut().map(|s| &mut s.verdict)).for_each(|v| v.reasons.truncate(8));
    line(&row)
}

fn offers(challenge: &Challenge) -> (Vec<Token>, Vec<Offered>) {
    let mut ids: Vec<AssetId> = Vec::new();
    let mut assets = Vec::new();
    let mut wires: Vec<&str> = challenge.offers.iter().map(|o| &*o.wire.accepted).collect();
    wires.sort_unstable();
    wires.dedup();
    let mut row = |o: &Offer| {
        let asset = ids.iter().position(|id| *id == o.asset.id).unwrap_or_else(|| {
            let (id, eip712) = (o.asset.id, &o.asset.eip712);
            let (name, version) = (eip712.name.clone(), eip712.version.clone());
            assets.push(Token { id: id.to_string(), symbol: o.asset.symbol.clone(), decimals: o.asset.decimals, name, version });
            ids.push(id);
            ids.len() - 1
        });
        let bare = only_scores(&o.wire, wires.binary_search(&&*o.wire.accepted).unwrap_or_default());
        Offered {
            index: o.index,
            scheme: o.scheme.as_str().to_owned(),
            flow: o.flow.as_str().to_owned(),
            transfer: o.transfer.as_str().to_owned(),
            asset,
            amount: o.amount.atomic().to_string(),
            micro: o.price.micro(),
            payee: format!("{:#x}", o.payee.0),
            timeout: o.max_timeout,
            scores: bare.accepted.to_string(),
            extensions: bare.extensions.map(|e| e.to_string()),
        }
    };
    let offers = challenge.offers.iter().map(&mut row).collect();
    (assets, offers)
}
