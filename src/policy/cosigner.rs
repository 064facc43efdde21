//! What only a co-signer's policy has (S4): caps per wallet, payee and identity, the budget for payees that nothing proves, the
//! bound on what is live, and the keys of people who may say yes. And what a co-signer's policy must not say.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::caps;
use super::entry::Trust;
use super::pattern::HostPattern;
use super::read::{Fields, Report, count, each, fields, money, shown};
use super::rule::{Cap, PaymentCap, Target};
use super::yaml::{Node, Pair, Value};
use super::{LiveLimit, RuleId};
use crate::payment::{MicroUsd, Reason};

/// Longest window a co-signer signs, seconds (S4).
pub const MAX_LIFETIME: u64 = 600;

/// Who reads a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It sees the request and the seller's answer.
    Proxy,
    /// It sees fields to be signed, and words.
    Cosigner {
        /// There is a budget for payees that nothing proves.
        unverified: bool,
    },
}

impl Role {
    pub(super) const fn is_cosigner(self) -> bool {
        matches!(self, Self::Cosigner { .. })
    }
}

/// Top-level keys of a co-signer alone.
pub(super) const KEYS: [&str; 4] = ["caps", "unverified", "live", "approvers"];

/// Whose counter a [`Ring`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Wallet,
    Payee,
    Identity,
    Unverified,
}

impl Whose {
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Wallet => Reason::CapWallet,
            Self::Payee => Reason::CapPayee,
            Self::Identity => Reason::CapIdentity,
            Self::Unverified => Reason::CapUnverified,
        }
    }
}

/// Caps that hold whatever agent and entry a payment is for.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) whose: Whose,
    pub(super) per_payment: Option<PaymentCap>,
    pub(super) caps: Vec<Cap>,
}

/// People who may say yes to one payment above the limits they are named for.
#[derive(Debug)]
pub struct Approver {
    /// The name under `approvers`.
    pub name: Arc<str>,
    /// Their P-256 keys: SubjectPublicKeyInfo, DER.
    pub keys: Vec<Box<[u8]>>,
    /// The limits a grant of theirs may exceed, by the names refusals show.
    pub may_exceed: Vec<RuleId>,
    /// So many different keys have to sign.
    pub quorum: u32,
}

/// The compiled part.
#[derive(Debug, Default)]
pub(super) struct Cosigner {
    pub(super) rings: Vec<Ring>,
    pub(super) live: Option<LiveLimit>,
    pub(super) approvers: Vec<Approver>,
}

/// The nodes of all files.
#[derive(Default)]
pub(super) struct Sections<'a> {
    pub(super) caps: Option<&'a Node>,
    pub(super) unverified: Option<&'a Node>,
    pub(super) live: Option<&'a Node>,
    pub(super) approvers: Vec<&'a Pair>,
}

/// Reads the sections.
pub(super) fn read(sections: &Sections<'_>, report: &mut Report) -> Cosigner {
    let mut all = Cosigner::default();
    if let Some(map) = sections.caps.and_then(|node| fields(node, "caps", &["wallet", "payee", "identity"], report)) {
        for (key, whose) in [("wallet", Whose::Wallet), ("payee", Whose::Payee), ("identity", Whose::Identity)] {
            let Some(node) = map.get(key) else { continue };
            let (per_payment, caps) = caps::caps(node, false, report).named(&format!("caps.{key}"));
            all.rings.push(Ring { whose, per_payment, caps });
        }
    }
    all.rings.extend(sections.unverified.and_then(|node| unverified(node, report)));
    all.live = sections.live.and_then(|node| Some(LiveLimit { limit: above_zero(node, "live", report)?, rule: RuleId("live".into()) }));
    all.approvers = sections.approvers.iter().filter_map(|pair| approver(pair, report)).collect();
    all
}

fn above_zero(node: &Node, place: &str, report: &mut Report) -> Option<MicroUsd> {
    let limit = money(node, place, report)?;
    if limit == MicroUsd::ZERO {
        report.error(&node.at, format!("{place}: zero is the same as leaving it out: write an amount, or remove the key"));
        return None;
    }
    Some(limit)
}

fn unverified(node: &Node, report: &mut Report) -> Option<Ring> {
    let map = fields(node, "unverified", &["per_payment", "day"], report)?;
    let mut part = |key: &str| {
        let Some(node) = map.get(key) else {
            report.error(map.at, format!("unverified: `{key}` is missing: write `unverified: {{ per_payment: 0.05, day: 1 }}`"));
            return None;
        };
        above_zero(node, &format!("unverified.{key}"), report)
    };
    let (per_payment, day) = (part("per_payment"), part("day"));
    if per_payment? > day? {
        report.error(&node.at, "unverified.per_payment is above unverified.day, so it could never be reached: lower it");
    }
    let rule = |name: &str| RuleId(format!("unverified.{name}").into());
    let per_payment = Some(PaymentCap { rule: rule("per_payment"), limit: per_payment? });
    let caps = vec![Cap { rule: rule("day"), period: super::Period::Calendar(super::Window::Day), limit: day? }];
    Some(Ring { whose: Whose::Unverified, per_payment, caps })
}

fn approver(pair: &Pair, report: &mut Report) -> Option<Approver> {
    let place = format!("approvers.{}", shown(&pair.key));
    let map = fields(&pair.value, &place, &["keys", "may_exceed", "quorum"], report)?;
    let mut part = |key: &str, example: &str| {
        let node = map.get(key);
        if node.is_none() {
            report.error(map.at, format!("{place}: `{key}` is missing: write {example}"));
        }
        node
    };
    let keys = part("keys", "`keys: [\"…\"]` with their P-256 public keys, base64 of DER");
    let may_exceed = part("may_exceed", "`may_exceed: [caps.day]` with the limits they may lift for one payment");
    let keys_at = &keys?.at;
    let keys = each(keys?, &format!("{place}.keys"), report, approver_key);
    let may_exceed = each(may_exceed?, &format!("{place}.may_exceed"), report, limit_name);
    if keys.iter().enumerate().any(|(n, key)| keys[..n].contains(key)) {
        report.error(keys_at, format!("{place}.keys: a key stands there twice, and would be one person all the same: remove one"));
    }
    let quorum = map.get("quorum").and_then(|n| count(n, &format!("{place}.quorum"), 20, report)).unwrap_or(1);
    if let Some(node) = map.get("quorum").filter(|_| quorum == 0) {
        report.error(&node.at, format!("{place}.quorum: nobody would have to say yes: write 1 or more"));
    }
    // Without keys there were mistakes in them, which are reported.
    if !keys.is_empty() && usize::try_from(quorum).is_ok_and(|quorum| quorum > keys.len()) {
        report.error(keys_at, format!("{place}.keys: {} keys can never be a quorum of {quorum}: name more, or lower `quorum`", keys.len()));
    }
    Some(Approver { name: pair.key.as_str().into(), keys, may_exceed, quorum })
}

/// DER of the SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];

fn approver_key(t: &str) -> Result<Box<[u8]>, String> {
    let der = STANDARD.decode(t).ok().filter(|der| der.len() == P256_SPKI.len() + 65 && der.starts_with(&P256_SPKI));
    der.map(Vec::into_boxed_slice)
        .ok_or_else(|| format!("\"{}\" is not a P-256 public key: write the base64 of its SubjectPublicKeyInfo in DER (MFkw…)", shown(t)))
}

/// Caps and rates may be lifted for one payment; `live`, `unverified`, a lifetime and a deny never (M2.6).
fn limit_name(t: &str) -> Result<RuleId, String> {
    let windows = ["per_payment", "hour", "day", "week", "month", "total"];
    let cap = |name: &str| name.strip_prefix("caps.").is_some_and(|w| windows.contains(&w));
    let legal = match t.split_once(':') {
        Some(("entry", rest)) => rest.split_once('.').is_some_and(|(id, name)| !id.is_empty() && (name == "max" || cap(name))),
        Some(_) => false,
        None => {
            let ring = ["caps.wallet.", "caps.payee.", "caps.identity."].iter().find_map(|p| t.strip_prefix(p));
            cap(t) || matches!(t, "rate.per_minute" | "rate.per_hour") || ring.is_some_and(|w| windows.contains(&w))
        }
    };
    if legal {
        return Ok(RuleId(t.into()));
    }
    Err(format!(
        "\"{}\" is no limit that may be lifted: write a cap as refusals show it, such as caps.day, caps.payee.day or entry:ID.max",
        shown(t)
    ))
}

const PROVE: &str = "write `pay_to: [0x…]`, `offer_key: [did:key:…]` or `probe: true`, or allow a bounded loss with `unverified: { per_payment: 0.05, day: 1 }` at the top of the file";

/// Holds an allow entry against S4: something proves the payee, or there is a budget for what nothing proves.
pub(super) fn check_allow(map: &Fields<'_>, target: &Target, trust: &Trust, role: Role, report: &mut Report) {
    let Role::Cosigner { unverified } = role else { return };
    let pay_to = map.get("pay_to");
    let word = pay_to.filter(|n| matches!(&n.value, Value::Text(t) if t == "pinned" || t == "any"));
    match word {
        Some(node) if !unverified => {
            report.error(&node.at, format!("allow.pay_to: a co-signer takes no payee on somebody's word: {PROVE}"))
        }
        None if pay_to.is_none() && map.get("offer_key").is_none() && !trust.probe && !unverified => {
            report.error(map.at, format!("allow: nothing proves the payee of this entry to a co-signer: {PROVE}"));
        }
        _ => {}
    }
    if let Some(node) = map.get("probe").filter(|_| trust.probe)
        && !target.hosts.iter().all(|h| matches!(h, HostPattern::Exact(_)))
    {
        report.error(&node.at, "allow.probe: only hosts that are written out are asked: name them one by one, without `*`");
    }
    for key in ["offer_key", "probe"] {
        if let Some(node) = map.get(key).filter(|_| !target.payees.is_empty()) {
            report.warn(&node.at, format!("allow.{key} has no effect beside a `pay_to` list, which is proof enough: remove one of them"));
        }
    }
    for key in ["paths", "ports", "plain_http", "protocols", "schemes", "flows", "transfer", "repeats"] {
        if let Some(node) = map.get(key) {
            report
                .warn(&node.at, format!("allow.{key} has no effect on a co-signer, which does not see it: the proxy's policy narrows it"));
        }
    }
}

/// A deny that a co-signer cannot hold anything against would be ignored in silence.
pub(super) fn check_deny(map: &Fields<'_>, role: Role, report: &mut Report) {
    for key in ["paths", "ports"] {
        if let Some(node) = map.get(key).filter(|_| role.is_cosigner()) {
            report.error(
                &node.at,
                format!("deny.{key}: a co-signer does not see it, so this would deny nothing: remove the key, or the entry"),
            );
        }
    }
}
