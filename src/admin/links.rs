//! Links to questions (S17, S18). A link locates a ticket and decides nothing: looking at it is free, scanners may; the decision is a
//! POST with the approver's own token, and uses the link up.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::payment::Timestamp;

/// What the page may load and do (S17). It needs no script.
pub const CSP: &str = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Longest life of a link.
const LONGEST_MS: i64 = 15 * 60 * 1000;
/// Links that may be live at once; the next ticket goes without one.
const LIVE: usize = 10_000;

/// The links of this process; after a restart tickets are found by their names.
pub struct Links {
    live: HashMap<[u8; 32], (Box<str>, Timestamp)>,
    key: hmac::Key,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("live", &self.live.len()).finish_non_exhaustive()
    }
}

impl Links {
    /// No links yet; `random` keys the proof that a form came from our page.
    pub fn new(random: &[u8; 32]) -> Self {
        Self { live: HashMap::new(), key: hmac::Key::new(hmac::HMAC_SHA256, random) }
    }

    /// The token of a link to `ticket`, which ends with it and after 15 minutes at the latest. `None`: too many are live.
    pub fn make(&mut self, ticket: &str, random: &[u8; 16], now: Timestamp, ticket_ends: Timestamp) -> Option<String> {
        self.live.retain(|_, (_, ends)| now < *ends);
        if self.live.len() >= LIVE {
            return None;
        }
        let token = BASE64_URL_SAFE_NO_PAD.encode(random);
        self.live.insert(hash(&token), (ticket.into(), ticket_ends.min(now.plus_millis(LONGEST_MS))));
        Some(token)
    }

    /// The ticket that a link leads to. Changes nothing.
    pub fn find(&self, token: &str, now: Timestamp) -> Option<&str> {
        self.live.get(&hash(token)).filter(|(_, ends)| now < *ends).map(|(ticket, _)| &**ticket)
    }

    /// Uses a link up, for a decision that was taken: a second one finds nothing.
    pub fn take(&mut self, token: &str, now: Timestamp) -> Option<Box<str>> {
        self.live.remove(&hash(token)).filter(|(_, ends)| now < *ends).map(|(ticket, _)| ticket)
    }

    /// What the form of this link's page carries.
    pub fn csrf(&self, token: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, token.as_bytes()))
    }

    /// Whether a form came from this link's page. In constant time.
    pub fn is_ours(&self, token: &str, csrf: &str) -> bool {
        BASE64_URL_SAFE_NO_PAD.decode(csrf).is_ok_and(|tag| hmac::verify(&self.key, token.as_bytes(), &tag).is_ok())
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The page of one question: facts, and a form that an approver signs with a token.
pub fn page(token: &str, csrf: &str, facts: &[(&str, String)]) -> String {
    let rows: String = facts.iter().map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>", html(name), html(value))).collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\"><title>Approve a payment</title></head>\
         <body><h1>May this be paid?</h1><table>{rows}</table>\
         <form method=\"post\" action=\"/approve/{}\" autocomplete=\"off\"><input type=\"hidden\" name=\"csrf\" value=\"{}\">\
         <p><label>Your token <input type=\"password\" name=\"token\" required></label></p>\
         <p><label>Code, if yours needs one <input name=\"totp\" inputmode=\"numeric\" maxlength=\"6\"></label></p>\
         <button name=\"decision\" value=\"approve\">Approve</button> <button name=\"decision\" value=\"deny\">Deny</button></form></body></html>",
        html(token),
        html(csrf),
    )
}

/// At most 200 characters, nothing that controls or hides, nothing that is markup (S19).
fn html(text: &str) -> String {
    let mut out = String::new();
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
    };
    for c in text.chars().filter(shown).take(200) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn s18_looking_decides_nothing_and_a_decision_uses_the_link_up() {
        let mut links = Links::new(&[1; 32]);
        let token = links.make("t-1", &[9; 16], at(0), at(600)).unwrap();
        assert_eq!(token.len(), 22);
        for _ in 0..3 {
            assert_eq!(links.find(&token, at(10)), Some("t-1"));
        }
        assert_eq!(links.take(&token, at(10)).as_deref(), Some("t-1"));
        assert_eq!((links.find(&token, at(10)), links.take(&token, at(10))), (None, None), "the second click finds nothing");
        assert_eq!(links.find("", at(10)), None);
    }

    #[test]
    fn s18_a_link_ends_with_its_ticket_and_after_15_minutes_at_the_latest() {
        let mut links = Links::new(&[1; 32]);
        for (n, ticket_ends, last) in [(1_u8, 60, 59), (2, 100_000, 899)] {
            let token = links.make("t", &[n; 16], at(0), at(ticket_ends)).unwrap();
            assert!(links.find(&token, at(last)).is_some() && links.find(&token, at(last + 1)).is_none(), "{n}");
            assert!(links.take(&token, at(last + 1)).is_none(), "{n}");
        }
    }

    #[test]
    fn a_form_of_another_page_is_refused() {
        let links = Links::new(&[1; 32]);
        let csrf = links.csrf("one");
        for (token, given, ours) in [("one", csrf.as_str(), true), ("two", &csrf, false), ("one", "", false), ("one", "AAAA", false)] {
            assert_eq!(links.is_ours(token, given), ours, "{token} {given}");
        }
        assert!(!Links::new(&[2; 32]).is_ours("one", &csrf));
    }

    #[test]
    fn s19_facts_are_text_on_the_page() {
        let page = page("abc", "def", &[("host", "<script>alert('x')</script>\u{202e}\"".into())]);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;") && !page.contains("<script"), "{page}");
    }
}
