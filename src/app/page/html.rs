//! The page itself. Every value in it goes through the escape; nothing in it is a script, and no seller's word is in the facts (S19).

use std::fmt::Write as _;

use crate::app::approvals::usd;
use crate::payment::{Timestamp, escape_html as e};
use crate::treasurer::approvals::{Standing, Ticket};

/// What decides.
pub(super) struct Form<'a> {
    pub(super) csrf: &'a str,
    /// Somebody's yes needs a code too.
    pub(super) code: bool,
}

pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
main{max-width:36rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}
dt{opacity:.7}
dd{margin:0;overflow-wrap:anywhere}
label{display:block;margin:1rem 0}
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}
button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}
.error{border-left:.3rem solid #c33;padding-left:.7rem}
";

/// The ticket, what went wrong, and the form.
pub(super) fn page(ticket: &Ticket, now: Timestamp, form: Option<&Form<'_>>, error: Option<&str>) -> String {
    let facts = &ticket.facts;
    let headline = format!("{} asks to pay {} USD to {}", e(&facts.agent), usd(facts.micro_usd), e(&facts.host));
    let mut body = format!("<h1>{headline}</h1>\n");
    if let Some(error) = error {
        let _ = writeln!(body, "<p class=\"error\" role=\"alert\">{}</p>", e(error));
    }
    let _ = writeln!(body, "<p><strong>{}</strong></p>", standing(ticket.standing(now)));
    body.push_str("<dl>\n");
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", e(value));
    };
    row("agent", &facts.agent);
    if let Some(session) = &facts.session {
        row("session", session);
    }
    row("request", &format!("{} {}", facts.method, facts.host));
    row("amount", &format!("{} USD in {} on {}", usd(facts.micro_usd), facts.asset, facts.network));
    row("token contract", &facts.token);
    row("payee", &facts.payee);
    row("allow entry", &facts.entry);
    for ask in &facts.asks {
        row("why", &format!("{} ({}) asks {}", ask.rule, ask.reason, ask.any_of.join(" or ")));
    }
    for group in &ticket.groups {
        row("group", &format!("{}: {} have to say yes", group.name, group.quorum));
    }
    for vote in &ticket.votes {
        row(if vote.yes { "yes" } else { "no" }, &format!("{} at {}", vote.who, vote.at.rfc3339()));
    }
    row("open until", &ticket.expires.rfc3339());
    row("ticket", &ticket.id);
    body.push_str("</dl>\n");
    if let Some(form) = form {
        let code = if form.code {
            "<label>Code of your authenticator, to approve <input name=\"code\" inputmode=\"numeric\" autocomplete=\"one-time-code\" maxlength=\"6\"></label>\n"
        } else {
            ""
        };
        let _ = write!(
            body,
            "<form method=\"post\" autocomplete=\"off\">\n<input type=\"hidden\" name=\"csrf\" value=\"{}\">\n\
             <label>Your token <input type=\"password\" name=\"token\" required autocomplete=\"current-password\"></label>\n{code}\
             <button name=\"decision\" value=\"approve\">Approve</button>\n<button name=\"decision\" value=\"deny\">Deny</button>\n</form>\n",
            e(form.csrf)
        );
    }
    frame(&headline, &body)
}

/// A page without a ticket.
pub(super) fn failure(message: &str) -> String {
    frame("Tollpass", &format!("<h1>Nothing was decided</h1>\n<p>{}</p>\n", e(message)))
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Pending => "It waits for an answer. Looking at this page decides nothing.",
        Standing::Granted => "It is approved, for one payment.",
        Standing::Denied => "It is denied.",
        Standing::Used => "It was approved, and paid for.",
        Standing::Expired => "It ended before it was used.",
    }
}

/// `title` is escaped already.
fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<link rel=\"stylesheet\" href=\"/approve/style.css\">\n</head>\n\
         <body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}
