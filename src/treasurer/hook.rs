//! The operator's own program, asked after the policy said yes and before anything is held (S21). It can say no, and nothing
//! else: no answer, a late one or a strange one is a no too.

use std::future::Future;
use std::pin::Pin;

use serde_json::json;

use super::Ask;
use crate::payment::{PurchaseId, Reason, SessionName, Timestamp};
use crate::policy::{Approval, HookAt, Policy};

/// Its answer, when there is one.
pub type Said<'a> = Pin<Box<dyn Future<Output = Option<bool>> + Send + 'a>>;

/// Carries the question. `None` is no usable answer.
pub trait Hook: Send + Sync {
    /// Posts `facts` to `at`; true allows.
    fn ask<'a>(&'a self, at: &'a HookAt, facts: Vec<u8>) -> Said<'a>;
}

/// Asks, if the policy has a hook.
///
/// # Errors
/// [`Reason::HookDenied`] or [`Reason::HookUnavailable`].
pub(super) async fn consult(
    hook: Option<&dyn Hook>,
    policy: &Policy,
    ask: &Ask,
    approval: &Approval,
    id: &PurchaseId,
    now: Timestamp,
) -> Result<(), Reason> {
    let Some(at) = &policy.risk().hook else { return Ok(()) };
    let answer = match hook {
        Some(hook) => hook.ask(at, facts(policy, ask, approval, id, now)).await,
        None => None,
    };
    match answer {
        Some(true) => Ok(()),
        Some(false) => Err(Reason::HookDenied),
        None => Err(Reason::HookUnavailable),
    }
}

/// What is to be signed, and for whom. The query of the request is not in it: it may carry secrets.
fn facts(policy: &Policy, ask: &Ask, approval: &Approval, id: &PurchaseId, now: Timestamp) -> Vec<u8> {
    let offer = approval.offer();
    let facts = json!({
        "type": "tollpass.decision",
        "purchase": id.to_string(),
        "at": now.rfc3339_millis(),
        "agent": ask.agent.as_str(),
        "session": ask.session.as_ref().map(SessionName::as_str),
        "method": ask.method.as_str(),
        "host": ask.host.to_string(),
        "port": ask.port,
        "https": ask.https,
        "path": ask.path,
        "rule": approval.entry().to_string(),
        "usd": offer.price.to_string(),
        "network": offer.asset.id.chain.to_string(),
        "asset": offer.asset.symbol.as_str(),
        "asset_id": offer.asset.id.to_string(),
        "atomic": offer.amount.atomic().to_string(),
        "payee": offer.payee.0.to_string(),
        "policy": &**policy.digest(),
    });
    facts.to_string().into_bytes()
}
