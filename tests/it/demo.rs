//! `tollpass demo` as a program: what it prints is what was paid.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollpass")).arg("demo").args(args).output().unwrap()
}

fn micro(usd: &Value) -> i64 {
    tollpass::payment::MicroUsd::parse(usd.as_str().unwrap()).unwrap().micro()
}

#[test]
fn the_demo_pays_what_it_says_and_says_why_it_did_not() {
    let out = demo(&["--once", "--json", "--payments", "3"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(object["signer"], "mpc");
    assert_eq!(object["wallet"].as_str().unwrap().len(), 42);

    let rows = object["payments"].as_array().unwrap();
    let paid: Vec<&Value> = rows.iter().filter(|r| r["outcome"] == "paid").collect();
    let refused: Vec<&Value> = rows.iter().filter(|r| r["outcome"] == "refused").collect();
    assert_eq!(paid.len(), 4, "three ordinary ones and the one whose answer got lost");
    let totals = &object["totals"];
    assert_eq!(
        (&totals["attempted"], &totals["paid"], &totals["refused"]),
        (&rows.len().into(), &paid.len().into(), &refused.len().into())
    );
    assert_eq!(micro(&totals["spent_usd"]), paid.iter().map(|r| micro(&r["amount_usd"])).sum::<i64>());
    assert!(object["authorize_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert!(object["authorize_ms"]["p99"].as_f64() >= object["authorize_ms"]["p50"].as_f64());

    let by = |who: &str| refused.iter().filter(|r| r["by"] == who).map(|r| r["reason"].as_str().unwrap()).collect::<Vec<_>>();
    let policy = ["cap_per_payment", "denied", "not_allowed", "payee_changed", "unknown_asset", "paid_not_delivered", "cap_day"];
    assert_eq!(by("policy"), policy);
    assert_eq!(by("cosigner"), ["unverified_payee"], "allowed here, unknown there");
    assert_eq!(by("seller"), ["not_accepted_by_seller"]);

    let thief: Vec<_> = object["thief"].as_array().unwrap().iter().map(|a| (&a["attempt"], &a["outcome"], &a["reason"])).collect();
    let no = |attempt: &str, reason: &str| (Value::from(attempt), Value::from("refused"), Value::from(reason));
    let wanted = [
        no("over_cap", "cap_per_payment"),
        no("unlisted_payee", "unverified_payee"),
        no("foreign_agent", "agent_not_tied"),
        no("lying_void", "cap_day"),
    ];
    assert_eq!(thief, wanted.iter().map(|(a, o, r)| (a, o, r)).collect::<Vec<_>>());
    assert!(object["thief"].as_array().unwrap().iter().all(|a| a["rule"].is_string()), "each names the co-signer's rule");
}

#[test]
fn the_demo_shows_a_table_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_tollpass"))
        .args(["demo", "--once", "--payments", "1"])
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}");
    for line in ["weather   forecast", "cap_per_payment", "The three agree, nonce by nonce."] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert_eq!(temp.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_files_the_demo_shows_are_valid() {
    let text = String::from_utf8(demo(&["--show-files"]).stdout).unwrap();
    let (config, policies) = text.split_once("\n# policy.yaml\n").unwrap();
    let (policy, judge) = policies.split_once("\n# cosigner/policy.yaml\n").unwrap();
    tollpass::config::Config::parse(std::path::Path::new("tollpass.yaml"), config, &|_| None).unwrap();
    let source = |text: &str| [tollpass::policy::Source { name: "policy.yaml".into(), text: text.into() }];
    let policy = tollpass::policy::Policy::parse(&source(policy), 1).unwrap();
    assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
    let judge = tollpass::policy::Policy::parse_for_cosigner(&source(judge), 1).unwrap();
    assert!(judge.warnings().is_empty(), "{:?}", judge.warnings());
}
