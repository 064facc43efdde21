//! The decision log on the real program: what a line holds, what the policy that wrote it and others say to it, a draft in the shadow.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Plan, Program, Setup, eventually};
use crate::till::Till;

const LOG: &str = "state/private/decisions/decisions.jsonl";

fn caps(text: &str) -> String {
    Setup::policy_with(text, "", "")
}

/// The whole lines of the log so far.
fn rows(program: &Program) -> Vec<Value> {
    let text = std::fs::read_to_string(program.path(LOG)).unwrap_or_default();
    text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Waits until so many decisions, and deliveries, are in the log.
#[track_caller]
fn logged(program: &Program, decisions: usize, consumed: usize) -> Vec<Value> {
    let mut all = Vec::new();
    eventually("the log has it all", || {
        all = rows(program);
        let count = |key: &str, value: &str| all.iter().filter(|r| r[key] == value).count();
        count("kind", "decision") >= decisions && count("what", "consumed") >= consumed
    });
    all.retain(|r| r["kind"] == "decision");
    assert_eq!(all.len(), decisions, "{all:?}");
    all
}

#[track_caller]
fn answer(output: &Output, status: i32) -> Value {
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

#[track_caller]
fn replay(program: &Program, draft: &str, status: i32) -> Value {
    std::fs::write(program.path("draft.yaml"), draft).unwrap();
    answer(&program.run(&["policy", "replay", "--policy", "draft.yaml", "--config", "tollpass.yaml", "--json"]), status)
}

#[test]
fn the_policy_that_wrote_the_log_changes_nothing_and_others_change_what_they_must() {
    let live = caps("per_payment: 0.01, day: 0.05");
    let till = Till::new(Setup::new().policy(live.clone()), |_| Plan::ok("sold"));
    let statuses: Vec<u16> = (0..7).map(|n| till.get(&format!("/{n}")).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 402, 402]);
    logged(&till.program, 7, 5);

    let same = replay(&till.program, &live, 0);
    assert_eq!(
        (&same["judged"], &same["changed"], &same["other_reason"], &same["guessed"]),
        (&json!(7), &json!(0), &json!(0), &json!(0)),
        "{same}"
    );
    let five = json!({ "count": 5, "usd": "0.05" });
    assert_eq!(same["agents"], json!([{ "agent": "bot", "paid": five, "would_pay": five }]));

    let tighter = replay(&till.program, &caps("per_payment: 0.01, day: 0.03"), 1);
    let (allow, deny) = (json!({ "say": "allow", "why": "local" }), json!({ "say": "deny", "why": "cap_day (caps.day)" }));
    assert_eq!(tighter["changes"], json!([{ "agent": "bot", "was": allow, "would_be": deny, "count": 2, "usd": "0.02" }]), "{tighter}");
    assert_eq!(tighter["agents"][0]["would_pay"], json!({ "count": 3, "usd": "0.03" }));
    assert!(tighter["first"][0]["request"].as_str().unwrap().ends_with("/3"), "{tighter}");

    let looser = replay(&till.program, &caps("per_payment: 0.01, day: 0.06"), 1);
    assert_eq!(looser["changes"], json!([{ "agent": "bot", "was": deny, "would_be": allow, "count": 1, "usd": "0.01" }]), "{looser}");

    // A counter that the live policy never read: summed from the log.
    let host = replay(&till.program, &caps("per_payment: 0.01, day: 0.05, per_host_day: 0.02"), 1);
    assert_eq!((&host["guessed"], &host["changed"]), (&json!(7), &json!(3)), "{host}");
    assert_eq!(host["changes"][0]["would_be"]["why"], "cap_host (caps.per_host_day)", "{host}");

    let text = till.program.run(&["policy", "replay", "--policy", "draft.yaml", LOG]);
    let (out, err) = (String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    assert!(
        out.contains("7 decisions of 1 files judged again") && out.contains("allow local -> deny cap_host (caps.per_host_day)"),
        "{out}"
    );
    assert_eq!((text.status.code(), err.trim()), (Some(1), "tollpass: 3 of 7 decisions change"));
}

#[test]
fn a_wrong_log_or_draft_is_named_with_its_line() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    assert_eq!([till.get("/1").status, till.get("/2").status], [200; 2]);
    logged(&till.program, 2, 2);
    let good = std::fs::read_to_string(till.program.path(LOG)).unwrap();
    for (name, text, part) in [
        ("bad.jsonl", format!("{good}not json\n{good}"), format!("bad.jsonl:{}: not a line of a decision log", good.lines().count() + 1)),
        ("new.jsonl", good.replacen("\"v\":1", "\"v\":2", 1), "new.jsonl:1: written in format 2".to_owned()),
        ("odd.jsonl", good.replacen("127.0.0.1", "no host", 1), "odd.jsonl:1: `host` cannot be read".to_owned()),
    ] {
        std::fs::write(till.program.path(name), text).unwrap();
        let output = till.program.run(&["policy", "replay", "--policy", "policy.yaml", name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(&part), "{said}");
    }
    std::fs::write(till.program.path("draft.yaml"), "version: 1\nagents: { a: { capz: {} } }\n").unwrap();
    let output = till.program.run(&["policy", "replay", "--policy", "draft.yaml", LOG]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("draft.yaml:2:"), "{said}");
}

#[test]
fn a_line_has_no_query_and_explains_itself_again() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/report?token=a-secret-of-the-agent").status, 200);
    let row = logged(&till.program, 1, 1).remove(0);
    let text = std::fs::read_to_string(till.program.path(LOG)).unwrap();
    assert!(!text.contains("a-secret-of-the-agent") && row["path"] == "/report", "{row}");
    assert_eq!(std::fs::metadata(till.program.path(LOG)).unwrap().permissions().mode() & 0o777, 0o600);
    let digest = till.program.metrics().label("tollpass_policy_info", "digest");
    assert_eq!(row["policy"].as_str().map(str::to_owned), digest);
    let id = till.program.ledger()["purchases"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(row["purchase"], id.as_str());
    for which in [["--row", "1"], ["--purchase", &id[..8]]] {
        let args = [&["policy", "explain", "--config", "tollpass.yaml", "--log", LOG, "--json"][..], &which].concat();
        let again = answer(&till.program.run(&args), 0);
        assert_eq!(
            (&again["same_policy"], &again["same_verdict"], &again["decision"]["verdict"]),
            (&json!(true), &json!(true), &json!("pay")),
            "{again}"
        );
    }
    std::fs::write(till.program.path("draft.yaml"), caps("per_payment: 0.001, day: 1")).unwrap();
    let output = till.program.run(&["policy", "explain", "--policy", "draft.yaml", "--log", LOG, "--row", "1"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("refuse: cap_per_payment") && said.contains("then     allow local") && said.contains("another one than then"),
        "{said}"
    );
}

#[test]
fn every_purchase_has_its_line_also_after_a_crash() {
    let mut till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    for n in 0..5 {
        assert_eq!(till.get(&format!("/{n}")).status, 200);
    }
    till.program.kill9();
    let ledger = till.program.ledger();
    let bought: Vec<&Value> = ledger["purchases"].as_array().unwrap().iter().map(|p| &p["id"]).collect();
    let lines = rows(&till.program);
    assert_eq!(bought.len(), 5);
    assert!(bought.iter().all(|id| lines.iter().any(|r| r["kind"] == "decision" && r["purchase"] == **id)), "{lines:?}");
    till.program.restart();
    assert_eq!(till.get("/again").status, 200);
    eventually("the log goes on", || rows(&till.program).iter().any(|r| r["path"] == "/again"));
    let policy = std::fs::read_to_string(till.program.path("policy.yaml")).unwrap();
    assert_eq!(replay(&till.program, &policy, 0)["judged"], 6);
}

#[test]
fn what_people_say_is_in_the_log_and_a_replay_takes_it_as_said() {
    let rules = "    rules: [ { id: dear, when: 'price.usd > usd(\"0.005\")', then: { ask: finance } } ]\n";
    let live = Setup::policy_with("per_payment: 5, day: 1000", "", rules) + "defaults: { hold: 1s }\napprovers: { finance: {} }\n";
    let till = Till::new(Setup::new().policy(live.clone()), |_| Plan::ok("sold"));
    let ticket = till.get("/report").json()["ticket"].as_str().unwrap().to_owned();
    assert!(till.program.run(&["approvals", "approve", &ticket]).status.success());
    assert_eq!(till.get("/report").status, 200);
    let rows = logged(&till.program, 2, 1);
    assert_eq!(
        (&rows[0]["verdict"]["say"], &rows[0]["verdict"]["groups"], &rows[0]["ticket"]),
        (&json!("ask"), &json!(["finance"]), &json!(ticket))
    );
    assert_eq!((&rows[1]["verdict"]["say"], &rows[1]["granted"]), (&json!("allow"), &json!(["finance"])));
    assert_eq!(replay(&till.program, &live, 0)["changed"], 0);
    let without = replay(&till.program, &live.replace("0.005", "0.5"), 1);
    assert_eq!((&without["changed"], &without["changes"][0]["was"]["say"]), (&json!(1), &json!("ask")), "{without}");
    let args = ["policy", "explain", "--config", "tollpass.yaml", "--log", "state/private/decisions", "--ticket", &ticket[..8], "--json"];
    assert_eq!(answer(&till.program.run(&args), 0)["verdict"]["say"], "ask");
}

#[test]
fn a_gate_is_in_the_log_and_explain_sees_what_is_frozen_and_what_was_bought() {
    let rules = "    rules: [ { id: new, when: 'history.count < 1', then: deny }, { id: sure, when: 'has(ctx.sure) && ctx.sure < 0.5', then: deny } ]\n";
    let open = caps("per_payment: 5, day: 1000");
    let till = Till::new(Setup::new().policy(open), |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").status, 200);
    logged(&till.program, 1, 1);
    let draft = Setup::policy_with("per_payment: 5, day: 1000", "", rules) + "context: { sure: decimal }\n";
    std::fs::write(till.program.path("draft.yaml"), draft).unwrap();
    let explain = |more: &[&str]| {
        let url = till.url("/2");
        let base = [
            "policy",
            "explain",
            "--policy",
            "draft.yaml",
            "--agent",
            "bot",
            "--price",
            "0.01",
            "--network",
            "eip155:84532",
            "--json",
            "--url",
            &url,
        ];
        answer(&till.program.run(&[&base[..], more].concat()), 0)
    };
    assert_eq!(explain(&[])["reasons"][0]["rule"], "new", "nothing was bought where no ledger is named");
    assert_eq!(explain(&["--config", "tollpass.yaml"])["verdict"], "pay");
    assert_eq!(explain(&["--config", "tollpass.yaml", "--context", "sure=0.4"])["reasons"][0]["rule"], "sure");
    assert!(till.program.run(&["agent", "freeze", "bot"]).status.success());
    assert_eq!(explain(&["--config", "tollpass.yaml"])["reasons"][0]["reason"], "agent_frozen");
    assert_eq!(till.get("/2").reason(), "agent_frozen");
    let row = logged(&till.program, 2, 1).remove(1);
    assert_eq!((&row["read"]["stopped"], &row["verdict"]["say"]), (&json!("agent_frozen"), &json!("deny")), "{row}");
    assert_eq!(row["policy"].as_str().map(str::to_owned), till.program.metrics().label("tollpass_policy_info", "digest"));
}

#[test]
fn a_draft_in_the_shadow_counts_for_itself_and_changes_nothing() {
    let mut setup = Setup::new().file("shadow.yaml", "version: 1\nagents: { bot: { capz: {} } }\n");
    setup.more = "policy_shadow: shadow.yaml\n".into();
    let till = Till::new(setup, |_| Plan::ok("sold"));
    let good = || till.program.metrics().sum("tollpass_shadow_reload_success", &[]);
    let said = |shadow: &str| {
        till.program.metrics().sum("tollpass_shadow_decisions_total", &[("agent", "bot"), ("live", "allow"), ("shadow", shadow)])
    };
    assert_eq!((good(), till.get("/0").status), (0.0, 200), "a broken draft keeps nobody from starting or paying");
    assert!(
        till.program.log().contains("policy_shadow not reloaded") && till.program.log().contains("shadow.yaml:2:"),
        "{}",
        till.program.log()
    );
    std::fs::write(till.program.path("shadow.yaml"), caps("per_payment: 0.02, day: 1, per_host_day: 0.03")).unwrap();
    eventually("the draft judges along", || good() == 1.0);
    // One cent is on the ledger already, so two more fit under three.
    for n in 1..6 {
        assert_eq!(till.get(&format!("/{n}")).status, 200);
        // What the live policy does not count is read from the ledger when the draft judges, a moment later.
        eventually("the draft has judged", || said("allow") + said("deny") == f64::from(n));
    }
    assert_eq!((said("allow"), said("deny")), (2.0, 3.0));
    let rows = logged(&till.program, 6, 6);
    assert!(rows[0].get("shadow").is_none());
    let verdicts: Vec<&Value> = rows[1..].iter().map(|r| &r["shadow"]["verdict"]["say"]).collect();
    assert_eq!(verdicts, ["allow", "allow", "deny", "deny", "deny"]);
    assert_eq!(rows[3]["shadow"]["verdict"]["reasons"][0]["reason"], "cap_host", "{}", rows[3]);
    std::fs::write(till.program.path("shadow.yaml"), "version: 1\n{").unwrap();
    eventually("a broken draft is told of", || good() == 0.0);
    assert_eq!(till.get("/6").status, 200);
    eventually("the draft before goes on", || said("deny") == 4.0);
}

#[test]
fn no_log_is_kept_where_none_is_wanted() {
    let mut setup = Setup::new();
    setup.more = "decision_log: { files: 0 }\n".into();
    let till = Till::new(setup, |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").status, 200);
    till.states(&["settled"]);
    assert!(!till.program.path("state/private/decisions").exists());
}
