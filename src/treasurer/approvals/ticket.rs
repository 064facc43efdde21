//! A payment that people were asked about, frozen over its facts (M2.6, S18). Pure: time is an argument.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::payment::{PurchaseId, Timestamp};
use crate::policy::Question;
use crate::treasurer::Ask;

/// Who said what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The approver's name.
    pub who: Arc<str>,
    /// Yes or no.
    pub yes: bool,
    /// Ledger time.
    pub at: Timestamp,
    /// The time step of the code that came with it, if one did: the second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// A way to a ticket that was sent to people: it finds the ticket and decides nothing (S18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// SHA-256 of its token; the token itself is nowhere here.
    pub hash: [u8; 32],
    /// Until then.
    pub until: Timestamp,
    /// Somebody decided through it.
    pub used: bool,
}

/// An approver's signed grant, for the co-signer to judge; opaque here (S5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Who brought it.
    pub who: Arc<str>,
    /// As it is sent.
    pub grant: Vec<u8>,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// People are asked.
    Pending,
    /// Every group that is asked reached its quorum; not used yet.
    Granted,
    /// Somebody said no.
    Denied,
    /// The one payment it was for was held.
    Used,
    /// Nobody said yes in time, or the yes was not used in time.
    Expired,
}

/// One reason to ask, as it was when the ticket was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Groups of which one has to reach its quorum.
    pub any_of: Vec<Arc<str>>,
    /// The rule or budget.
    pub rule: Arc<str>,
    /// The reason code.
    pub reason: Arc<str>,
}

/// The facts that people decide about: our own words and numbers, and the host as it was asked for (S18, S19).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whose budget.
    pub agent: Arc<str>,
    /// Its session.
    pub session: Option<Arc<str>>,
    /// The host that is paid.
    pub host: Arc<str>,
    /// Request method.
    pub method: Arc<str>,
    /// Who is paid, lower-case hex.
    pub payee: Arc<str>,
    /// The chain, CAIP-2.
    pub network: Arc<str>,
    /// Symbol of the token, from our own table.
    pub asset: Arc<str>,
    /// Its contract, lower-case hex: a symbol can be anybody's.
    #[serde(default)]
    pub token: Arc<str>,
    /// Atomic units, decimal.
    pub amount: Arc<str>,
    /// The price, micro-USD.
    pub micro_usd: i64,
    /// The allow entry.
    pub entry: Arc<str>,
    /// Why people are asked.
    pub asks: Vec<Asked>,
}

impl Facts {
    pub(super) fn of(question: &Question, ask: &Ask) -> Self {
        let offer = &question.offer;
        let asked =
            |a: &crate::policy::AskFor| Asked { any_of: a.any_of.clone(), rule: Arc::clone(&a.rule.0), reason: a.reason.as_str().into() };
        Self {
            agent: ask.agent.as_str().into(),
            session: ask.session.as_ref().map(|s| s.as_str().into()),
            host: ask.host.to_string().into(),
            method: ask.method.as_str().into(),
            payee: format!("{:#x}", offer.payee.0).into(),
            network: offer.asset.id.chain.to_string().into(),
            asset: offer.asset.symbol.as_str().into(),
            token: format!("{:#x}", offer.asset.id.token).into(),
            amount: offer.amount.atomic().to_string().into(),
            micro_usd: offer.price.micro(),
            entry: Arc::clone(&question.entry.0),
            asks: question.asks.iter().map(asked).collect(),
        }
    }

    /// What an identical question has: the same request, purchase and terms, and the same people to answer it, so that a ticket
    /// never passes a quorum that was raised, or a member who left, after it was opened.
    pub(super) fn key(&self, ask: &Ask, held: Option<PurchaseId>, groups: &[Group]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"tollpass/ticket/1");
        hash.update(ask.key.0);
        hash.update(held.map_or([0; 16], |id| *id.bytes()));
        // Field by field and length by length: JSON of our own types is both.
        hash.update(serde_json::to_vec(&(self, groups)).unwrap_or_default());
        hash.finalize().into()
    }
}

/// A group that is asked, as the policy had it when the ticket was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// How many distinct people have to say yes.
    pub quorum: u32,
    /// Who belongs to it; `None` is everybody who may approve.
    pub members: Option<Vec<Arc<str>>>,
    /// Above this, micro-USD, a yes needs a code too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<i64>,
}

impl Group {
    fn has(&self, who: &str) -> bool {
        self.members.as_ref().is_none_or(|members| members.iter().any(|m| **m == *who))
    }
}

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Names it towards people: 32 hex digits.
    pub id: Arc<str>,
    /// The purchase that it is for, chosen when it was opened: what a co-signer's grant names.
    #[serde(with = "hex_id")]
    pub purchase: PurchaseId,
    /// The identical question's key.
    pub key: [u8; 32],
    /// What it is about.
    pub facts: Facts,
    /// The groups that are asked.
    pub groups: Vec<Group>,
    /// Ledger time.
    pub opened: Timestamp,
    /// When it ends, whatever was said.
    pub expires: Timestamp,
    /// What was said, each person's latest word.
    pub votes: Vec<Vote>,
    /// Grants for the co-signer, one of each person who brought some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Given>,
    /// Links that were sent out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Notices that arrived, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Arc<str>>,
    /// Its payment was held.
    pub used: bool,
}

impl Ticket {
    /// Where it stands at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.used {
            return Standing::Used;
        }
        if self.votes.iter().any(|v| !v.yes) {
            return if now >= self.expires { Standing::Expired } else { Standing::Denied };
        }
        match (now >= self.expires, self.granted().is_empty()) {
            (true, _) => Standing::Expired,
            (false, false) => Standing::Granted,
            (false, true) => Standing::Pending,
        }
    }

    /// The groups that reached their quorum, if every reason to ask has one of them; else none.
    pub fn granted(&self) -> Vec<Arc<str>> {
        let reached = |group: &&Group| {
            let yes = self.votes.iter().filter(|v| v.yes && group.has(&v.who)).count();
            u32::try_from(yes).unwrap_or(u32::MAX) >= group.quorum
        };
        let reached: Vec<Arc<str>> = self.groups.iter().filter(reached).map(|group| Arc::clone(&group.name)).collect();
        let answered = |asked: &Asked| asked.any_of.iter().any(|group| reached.contains(group));
        if !self.votes.is_empty() && self.facts.asks.iter().all(answered) { reached } else { Vec::new() }
    }

    /// Whether `who` belongs to some group that is asked.
    pub fn concerns(&self, who: &str) -> bool {
        self.groups.iter().any(|group| group.has(who))
    }

    /// Whether a yes of `who` to `micro` micro-USD needs a code beside the token: what the strictest of their groups says.
    pub fn needs_code(&self, who: &str, micro: i64) -> bool {
        self.groups.iter().any(|group| group.has(who) && group.second_factor.is_some_and(|above| micro > above))
    }

    /// Records what somebody says, and uses the link up that led there; who speaks again replaces their own word.
    pub(super) fn vote(&mut self, vote: Vote, link: Option<[u8; 32]>) {
        self.votes.retain(|v| v.who != vote.who);
        self.votes.push(vote);
        for used in self.links.iter_mut().filter(|known| Some(known.hash) == link) {
            used.used = true;
        }
    }

    /// Keeps a grant; who brings another one replaces their own.
    pub(super) fn give(&mut self, given: Given) {
        self.grants.retain(|known| known.who != given.who);
        self.grants.push(given);
    }
}

mod hex_id {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::payment::PurchaseId;

    pub(super) fn serialize<S: Serializer>(id: &PurchaseId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&alloy_primitives::hex::encode(id.bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PurchaseId, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = alloy_primitives::hex::decode_to_array(text).map_err(serde::de::Error::custom)?;
        Ok(PurchaseId::from_bytes(bytes))
    }
}
