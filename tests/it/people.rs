//! People on the real program: what their webhook gets, what the page behind its link does and does not do, and the second factor.
//! The receiver verifies as one that was written from the standard alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::hex;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Agent, Plan, Program, Response, Seller, Setup, eventually, sha256};
use crate::till::Till;

const KEY: &[u8] = b"a key of thirty-two bytes, shared";
const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const PUBLIC: &str = "ops.example";

/// A delivery as it came.
#[derive(Clone, Debug)]
struct Delivery {
    id: String,
    at: String,
    signature: String,
    body: Vec<u8>,
}

impl Delivery {
    /// What a receiver does before it believes it: the signature, then the time.
    fn verify(&self, key: &[u8], now: i64) -> bool {
        let text = [self.id.as_bytes(), b".", self.at.as_bytes(), b".", &self.body].concat();
        let good = format!("v1,{}", STANDARD.encode(hmac_by_hand(key, &text)));
        self.signature.split(' ').any(|one| one == good) && self.at.parse::<i64>().is_ok_and(|at| now.abs_diff(at) <= 300)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The path of the link in it.
    #[track_caller]
    fn link(&self) -> String {
        let body = self.json();
        let link = body["data"]["link"].as_str().unwrap_or_else(|| panic!("no link: {body}"));
        assert_eq!(body["blocks"][2]["elements"][0]["url"], link, "the button leads there too");
        link.strip_prefix(&format!("https://{PUBLIC}")).unwrap().to_owned()
    }
}

/// RFC 2104 written out.
fn hmac_by_hand(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|b| b ^ with).to_vec();
    sha256(&[pad(0x5c), sha256(&[pad(0x36), message.to_vec()].concat()).to_vec()].concat())
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

type Got = Arc<Mutex<Vec<Delivery>>>;

/// A receiver that keeps what it gets and answers the n-th delivery as `answer` says; `None` hangs.
fn receiver(answer: impl Fn(usize) -> Option<u16> + Send + Sync + 'static) -> (Seller, Got) {
    let got = Got::default();
    let kept = Arc::clone(&got);
    let hook = Seller::http(move |call| {
        let body = call.body();
        let header = |name: &str| call.head.get(name).unwrap_or_default().to_owned();
        let (id, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        let number = {
            let mut kept = kept.lock().unwrap();
            kept.push(Delivery { id, at, signature, body });
            kept.len()
        };
        match answer(number) {
            Some(status) => call.reply(status, "Location: /elsewhere\r\n", "ok"),
            None => call.hang(),
        }
    });
    (hook, got)
}

#[track_caller]
fn delivered(got: &Got, n: usize) -> Vec<Delivery> {
    eventually(&format!("{n} deliveries"), || got.lock().unwrap().len() >= n);
    got.lock().unwrap().clone()
}

/// Everything above half a cent is put to `finance`, which listens at `hook`.
fn setup(hook: &Seller, group: &str) -> Setup {
    let rules = "    rules: [ { id: dear, when: 'price.usd > usd(\"0.005\")', then: { ask: finance } } ]\n";
    let policy = Setup::policy_with("per_payment: 5, day: 1000", "", rules);
    let group = format!("{group}webhook: {{ url: env:APPROVAL_HOOK, secret: env:APPROVAL_SECRET }}");
    let policy = format!("{policy}defaults: {{ hold: 1s }}\napprovers: {{ finance: {{ {group} }} }}\n");
    let line = |name: &str, more: &str| {
        let hash = hex::encode(sha256(token(name).as_bytes()));
        format!("  {name}: {{ roles: [{}], tokens: [\"sha256:{hash}\"]{more} }}\n", if name == "eve" { "read" } else { "approve, raise" })
    };
    let operators = [line("ann", &format!(", totp: {TOTP}")), line("bob", ""), line("eve", "")].concat();
    let agents = format!("agents:\n  bot: [\"sha256:{}\"]\n", hex::encode(sha256(b"an agent's token")));
    let mut setup = Setup::new()
        .policy(policy)
        .file("operators.yaml", format!("operators:\n{operators}"))
        .file("agents.yaml", agents)
        .env("APPROVAL_HOOK", &hook.url("/hook"))
        .env("APPROVAL_SECRET", &format!("whsec_{}", STANDARD.encode(KEY)))
        .env("ANN", &token("ann"))
        .env("BOB", &token("bob"));
    setup.agents = "default: bot, tokens: file:agents.yaml".into();
    setup.more = format!("admin: {{ tokens: file:operators.yaml, public_url: \"https://{PUBLIC}\" }}\n");
    setup
}

fn token(name: &str) -> String {
    format!("the token of {name}")
}

/// The operators' file holds a secret, so others must not read it.
#[track_caller]
fn till(setup: Setup) -> Till {
    use std::os::unix::fs::PermissionsExt as _;
    let chain = crate::harness::Chain::new();
    let terms = crate::harness::Terms::v2(crate::till::payee(), crate::till::CENT);
    let seller = Seller::http(crate::harness::shop(&chain, terms, |_| Plan::ok("sold")));
    let closed = |dir: &std::path::Path| {
        std::fs::set_permissions(dir.join("operators.yaml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    Till { chain, seller, program: Program::start_with(setup, closed) }
}

/// Kills the program and starts it again.
#[track_caller]
fn crash(till: &mut Till, hook: &Seller) {
    let secret = format!("whsec_{}", STANDARD.encode(KEY));
    till.program.restart_with(&[("APPROVAL_HOOK", &hook.url("/hook")), ("APPROVAL_SECRET", &secret)]);
}

/// A ticket that waits.
#[track_caller]
fn asked(till: &Till, path: &str) -> String {
    let refused = till.get(path);
    assert_eq!((refused.status, refused.reason().as_str()), (402, "approval_required"));
    refused.json()["ticket"].as_str().unwrap().to_owned()
}

#[track_caller]
fn state(program: &Program, ticket: &str) -> Value {
    let output = program.run(&["approvals", "show", ticket, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn notices(program: &Program, result: &str) -> f64 {
    program.metrics().sum("tollpass_approval_notices_total", &[("result", result)])
}

#[test]
fn a_question_is_told_until_it_arrives_under_one_id_and_never_again() {
    let (hook, got) = receiver(|n| Some(if n < 3 { 503 } else { 200 }));
    let mut till = till(setup(&hook, ""));
    let ticket = asked(&till, "/report");
    let all = delivered(&got, 3);
    let told = &all[2];
    assert!(all.iter().all(|d| d.id == told.id && d.body == told.body), "a receiver that knows the id drops the rest");
    assert!(all.iter().all(|d| d.verify(KEY, now())));
    for (what, forged) in [
        ("another body", Delivery { body: b"{}".to_vec(), ..told.clone() }),
        ("another id", Delivery { id: "msg_x".into(), ..told.clone() }),
        ("another time", Delivery { at: (now() + 1).to_string(), ..told.clone() }),
        ("no signature", Delivery { signature: String::new(), ..told.clone() }),
    ] {
        assert!(!forged.verify(KEY, now()), "{what}");
    }
    assert!(!told.verify(b"another key of some thirty bytes", now()) && !told.verify(KEY, now() + 400), "replayed later");
    let body = told.json();
    assert_eq!((&body["type"], &body["data"]["id"], &body["data"]["usd"]), (&json!("approval.required"), &json!(ticket), &json!("0.01")));
    assert!(body["text"].as_str().unwrap().starts_with("bot asks to pay 0.01 USD to "), "{body}");
    assert!(body["blocks"][0]["text"]["text"].is_string() && body["data"]["purchase"].is_null(), "{body}");
    eventually("it is counted", || notices(&till.program, "delivered") == 1.0);
    assert_eq!((notices(&till.program, "retried"), notices(&till.program, "failed")), (2.0, 0.0));
    assert!(!till.program.log().contains("/hook") && !till.program.log().contains(&STANDARD.encode(KEY)), "neither URL nor key");
    crash(&mut till, &hook);
    asked(&till, "/other");
    let all = delivered(&got, 4);
    assert_ne!(all[3].id, told.id, "what arrived is not told again after a crash");
}

#[test]
fn what_did_not_arrive_is_told_after_a_crash_and_holds_up_nobody() {
    let up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&up);
    let (hook, got) = receiver(move |_| seen.load(Ordering::SeqCst).then_some(200));
    let mut till = till(setup(&hook, ""));
    let ticket = asked(&till, "/report");
    let first = delivered(&got, 1)[0].clone();
    // The receiver hangs; whoever pays does not.
    assert!(till.program.run(&["approvals", "approve", &ticket]).status.success());
    assert_eq!(till.get("/report").status, 200);
    let waiting = asked(&till, "/waiting");
    till.program.kill9();
    up.store(true, Ordering::SeqCst);
    got.lock().unwrap().clear();
    crash(&mut till, &hook);
    eventually("it is told", || got.lock().unwrap().iter().any(|d| d.json()["data"]["id"] == *waiting));
    eventually("what was decided meanwhile is told as that", || {
        got.lock().unwrap().iter().any(|d| d.json()["data"]["id"] == *ticket && d.json()["type"] == "approval.decided")
    });
    eventually("both are counted", || notices(&till.program, "delivered") == 2.0);
    let all = got.lock().unwrap().clone();
    assert!(all.len() == 2 && all.iter().all(|d| d.id != first.id), "a question that is answered is not asked again");
    assert!(all.iter().all(|d| d.verify(KEY, now())));
}

#[test]
fn a_receiver_that_refuses_is_not_asked_again_and_a_redirect_is_not_followed() {
    let (hook, got) = receiver(|n| Some(if n == 1 { 302 } else { 200 }));
    let till = till(setup(&hook, ""));
    asked(&till, "/1");
    eventually("it is given up", || notices(&till.program, "failed") == 1.0);
    asked(&till, "/2");
    let all = delivered(&got, 2);
    assert_ne!(all[0].id, all[1].id);
    assert!(hook.seen().iter().all(|s| s.head.target() == "/hook"), "no redirect was followed");
}

/// A request of a browser to the page.
fn browse(program: &Program, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {PUBLIC}\r\n") };
    Agent::to(program.admin()).request(method, path, &format!("{host}{headers}"), body.as_bytes())
}

/// The page, and what its form needs: the cookie and the value beside it.
struct Open {
    page: Response,
    cookie: String,
    csrf: String,
}

#[track_caller]
fn open(program: &Program, path: &str) -> Open {
    let page = browse(program, "GET", path, "", "");
    assert_eq!(page.status, 200, "{}", page.text());
    let cookie = page.head.get("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let text = page.text();
    let csrf = text.split_once("name=\"csrf\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    Open { cookie: cookie.split(';').next().unwrap().to_owned(), page, csrf }
}

fn own_page(cookie: &str) -> String {
    format!(
        "Origin: https://{PUBLIC}\r\nSec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    )
}

fn form(csrf: &str, who: &str, decision: &str, code: &str) -> String {
    format!("csrf={csrf}&token={}&code={code}&decision={decision}", token(who).replace(' ', "+"))
}

#[test]
fn s18_looking_decides_nothing_and_one_decision_uses_the_link_up() {
    let (hook, got) = receiver(|_| Some(200));
    let till = till(setup(&hook, ""));
    let ticket = asked(&till, "/report");
    let path = delivered(&got, 1)[0].link();
    for n in 0..20 {
        // Scanners, previews, and somebody who comes from the chat's own page.
        let from_chat = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
        let page = browse(&till.program, if n % 2 == 0 { "GET" } else { "HEAD" }, &path, if n % 4 == 0 { from_chat } else { "" }, "");
        assert_eq!(page.status, 200);
    }
    assert_eq!(state(&till.program, &ticket)["state"], "pending");
    let found = open(&till.program, &path);
    let text = found.page.text();
    for shown in ["bot asks to pay 0.01 USD to 127.0.0.1", "eip155:84532", "dear (approval_required) asks finance", &ticket] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    assert!(!text.contains("<script") && !text.contains("style=") && !text.contains("http://") && !text.contains("https://"), "{text}");
    let csp = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        ("content-security-policy", csp),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(found.page.head.get(name), Some(value), "{name}");
    }
    assert_eq!(browse(&till.program, "GET", "/approve/style.css", "", "").head.get("content-type"), Some("text/css; charset=utf-8"));
    // A double click, and a second person's: one decision.
    let click = || browse(&till.program, "POST", &path, &own_page(&found.cookie), &form(&found.csrf, "bob", "approve", ""));
    let both: Vec<u16> = std::thread::scope(|threads| {
        let clicks = [threads.spawn(click), threads.spawn(click)];
        clicks.into_iter().map(|click| click.join().unwrap().status).collect()
    });
    let mut sorted = both.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [200, 409], "{both:?}");
    let answered = state(&till.program, &ticket);
    assert_eq!((&answered["state"], answered["votes"].as_array().unwrap().len()), (&json!("granted"), 1), "{answered}");
    let after = browse(&till.program, "GET", &path, "", "");
    assert!(after.status == 200 && after.text().contains("It is approved") && !after.text().contains("<form"), "{}", after.text());
    let late = browse(&till.program, "POST", &path, &own_page(&found.cookie), &form(&found.csrf, "ann", "deny", ""));
    assert_eq!((late.status, &state(&till.program, &ticket)["state"]), (409, &json!("granted")), "not even a no");
    assert_eq!(till.get("/report").status, 200);
    assert!(!till.program.log().contains(path.rsplit('/').next().unwrap()), "the link's token is in no log");
}

#[test]
fn s17_s18_only_an_approver_on_our_own_page_under_our_own_name_decides() {
    let (hook, got) = receiver(|_| Some(200));
    let till = till(setup(&hook, ""));
    let ticket = asked(&till, "/report");
    let path = delivered(&got, 1)[0].link();
    let found = open(&till.program, &path);
    let other = open(&till.program, &path);
    let good = form(&found.csrf, "bob", "approve", "");
    let own = own_page(&found.cookie);
    let agent = good.replace("the+token+of+bob", "an+agent%27s+token");
    for (what, headers, body, status) in [
        ("a name that was rebound", format!("Host: rebound.example\r\n{own}"), good.clone(), 421),
        ("two names", format!("Host: {PUBLIC}\r\nHost: {PUBLIC}\r\n{own}"), good.clone(), 421),
        ("another site", own.replace(PUBLIC, "evil.example"), good.clone(), 403),
        ("an opaque site", own.replace(&format!("https://{PUBLIC}"), "null"), good.clone(), 403),
        ("our name over http", own.replace("https://", "http://"), good.clone(), 403),
        ("no origin", own.replace("Origin", "X-Origin"), good.clone(), 403),
        ("a neighbour's page", own.replace("same-origin", "same-site"), good.clone(), 403),
        ("a cross-site form", own.replace("same-origin", "cross-site"), good.clone(), 403),
        ("no cookie", own.replace("Cookie", "X-Cookie"), good.clone(), 403),
        ("the cookie of another form", own_page(&other.cookie), good.clone(), 403),
        ("no value beside it", own.clone(), form("", "bob", "approve", ""), 403),
        ("the value of another form", own.clone(), form(&other.csrf, "bob", "approve", ""), 403),
        ("JSON", own.replace("x-www-form-urlencoded", "json"), good.clone(), 400),
        ("nobody's token", own.clone(), form(&found.csrf, "mallory", "approve", ""), 401),
        ("an agent's token", own.clone(), agent, 401),
        ("a reader's token", own.clone(), form(&found.csrf, "eve", "approve", ""), 403),
        ("no decision", own.clone(), form(&found.csrf, "bob", "", ""), 400),
        ("a link that was never sent", own.clone(), good.clone(), 404),
    ] {
        let at = if status == 404 { path[..path.len() - 1].to_owned() + if path.ends_with('0') { "1" } else { "0" } } else { path.clone() };
        let answer = browse(&till.program, "POST", &at, &headers, &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.head.get("access-control-allow-origin").is_none());
    }
    for method in ["PUT", "DELETE", "OPTIONS"] {
        assert_eq!(browse(&till.program, method, &path, &own, &good).status, 405, "{method}");
    }
    let framed = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
    assert_eq!(browse(&till.program, "GET", &path, framed, "").status, 403, "an image of another site");
    assert_eq!(state(&till.program, &ticket)["state"], "pending");
    // Through the proxy the agent does not reach it (S16).
    let url = format!("http://{}{path}", till.program.admin());
    assert_eq!(till.program.request("POST", &url, &own, good.as_bytes()).reason(), "forbidden_address");
    assert_eq!(browse(&till.program, "POST", &path, &own, &good).status, 200);
    assert_eq!(state(&till.program, &ticket)["state"], "granted");
}

#[test]
fn a_link_ends_with_its_question() {
    let (hook, got) = receiver(|_| Some(200));
    let till = till(setup(&hook, "timeout: 8s, "));
    asked(&till, "/report");
    let path = delivered(&got, 1)[0].link();
    let found = open(&till.program, &path);
    eventually("it ends", || browse(&till.program, "GET", &path, "", "").status == 410);
    let late = browse(&till.program, "POST", &path, &own_page(&found.cookie), &form(&found.csrf, "bob", "approve", ""));
    assert_eq!(late.status, 410);
    assert!(late.text().contains("this link has ended"), "{}", late.text());
}

#[test]
fn a_quorum_hears_how_far_it_is_and_gets_a_link_for_each_word() {
    let (hook, got) = receiver(|_| Some(200));
    let till = till(setup(&hook, "quorum: 2, members: [ann, bob], "));
    let ticket = asked(&till, "/report");
    let first = delivered(&got, 1)[0].link();
    let found = open(&till.program, &first);
    assert_eq!(browse(&till.program, "POST", &first, &own_page(&found.cookie), &form(&found.csrf, "bob", "approve", "")).status, 200);
    let told = delivered(&got, 2)[1].clone();
    assert!(String::from_utf8_lossy(&told.body).contains("yes so far: bob"), "{}", told.json());
    let second = told.link();
    assert_ne!(second, first);
    let found = open(&till.program, &second);
    assert_eq!(browse(&till.program, "POST", &second, &own_page(&found.cookie), &form(&found.csrf, "ann", "approve", "")).status, 200);
    assert_eq!(state(&till.program, &ticket)["state"], "granted");
    let done = delivered(&got, 3)[2].json();
    assert_eq!((&done["type"], &done["data"]["link"]), (&json!("approval.decided"), &json!(null)));
    assert!(done["text"].as_str().unwrap().starts_with("Approved by bob, ann: "), "{done}");
}

/// The code of `steps` after this one, by RFC 6238.
fn code(steps: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"12345678901234567890");
    let tag = hmac::sign(&key, &(now() / 30 + steps).to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let word = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

#[test]
fn above_its_amount_a_yes_needs_the_code_of_a_phone_on_every_way_and_once() {
    let (hook, got) = receiver(|_| Some(200));
    let till = till(setup(&hook, "second_factor: { above: 0.009 }, "));
    let ticket = asked(&till, "/report");
    let path = delivered(&got, 1)[0].link();
    let run = |args: &[&str]| {
        let output = till.program.run(args);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = run(&["approvals", "approve", &ticket]);
    assert!(!done && said.contains("code_needed"), "the socket has no phone: {said}");
    let (done, said) = run(&["approvals", "approve", &ticket, "--token", "env:BOB", "--totp", "123456"]);
    assert!(!done && said.contains("no_second_factor"), "{said}");
    let found = open(&till.program, &path);
    assert!(found.page.text().contains("name=\"code\""));
    let post = |decision: &str, code: &str| {
        browse(&till.program, "POST", &path, &own_page(&found.cookie), &form(&found.csrf, "ann", decision, code)).status
    };
    assert_eq!([post("approve", ""), post("approve", "000000")], [403, 403], "without, and with a wrong one");
    let used = code(0);
    assert_eq!(post("approve", &used), 200);
    assert_eq!(state(&till.program, &ticket)["votes"][0]["code"], true);
    assert_eq!(till.get("/report").status, 200);
    let next = asked(&till, "/next");
    let api = |ticket: &str, code: &str| {
        let headers = format!("Host: {PUBLIC}\r\nAuthorization: Bearer {}\r\n", token("ann"));
        let body = json!({ "code": code }).to_string();
        let answer = Agent::to(till.program.admin()).request("POST", &format!("/v1/approvals/{ticket}/approve"), &headers, body.as_bytes());
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(api(&next, &used), (403, "code_used".into()), "each code works once");
    // The clock of a phone may be half a minute ahead.
    let (done, said) = run(&["approvals", "approve", &next, "--token", "env:ANN", "--totp", &code(1)]);
    assert!(done, "{said}");
    assert_eq!(till.get("/next").status, 200);
    let last = asked(&till, "/last");
    for _ in 0..4 {
        assert_eq!(api(&last, "000000"), (403, "code_wrong".into()));
    }
    assert_eq!(api(&last, &code(1)), (429, "code_locked".into()), "with the one on the page that is five");
    assert!(!till.program.log().contains(TOTP));
}

#[test]
fn an_operators_file_with_a_secret_in_it_is_closed_to_others() {
    let (hook, _got) = receiver(|_| Some(200));
    let output = Program::once(&setup(&hook, ""), &["serve", "--config", "tollpass.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("run chmod 0400"), "{said}");
    let made = Program::once(&setup(&hook, ""), &["operator", "ann@x.example", "--role", "approve", "--totp", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let secret = made["add"].as_str().unwrap().split("totp: \"").nth(1).unwrap().split('"').next().unwrap();
    let uri = made["otpauth"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/Tollpass:ann%40x.example?secret=") && uri.contains(secret), "{uri}");
}
