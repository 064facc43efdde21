//! `tollpass policy explain`: rule, numbers, verdict.

use super::*;

#[test]
fn an_explanation_shows_rule_numbers_and_verdict() {
    let policy = allowing("[ { id: e, host: api.example, max: 0.02 } ]");
    let mut all = challenge(vec![offer(0, BASE_USDC, 10_000), offer(1, BASE_USDC, 30_000)]);
    all.rejected.push(Rejected { index: 2, reason: Reason::UnsupportedScheme });
    let paid = Ask::default().with(&policy, &all, &Books::spent(500_000), |input, d| d.explain(&policy, input, &all));
    let shown = paid.to_string();
    assert_eq!(
        shown,
        "agent    bot
request  GET https://api.example:443/v2/data
verdict  pay 0.01 USD, offer 0, rule e, valid for 60 s

offer 0  0.01 USD in USDC on eip155:8453 to 0x1111111111111111111111111111111111111111  [e]
  ok  caps.per_payment                         0.00 of         0.05
  ok  entry:e.max                              0.00 of         0.02
  ok  caps.day                                 0.50 of         1.00

offer 1  0.03 USD in USDC on eip155:8453 to 0x1111111111111111111111111111111111111111  [e]
  ok  caps.per_payment                         0.00 of         0.05
  NO  entry:e.max                              0.00 of         0.02
  ok  caps.day                                 0.50 of         1.00
  -   entry_max (entry:e.max): The amount is above the allow entry's `max`. Limit 0.02 USD.

offer 2  [no entry]
  -   unsupported_scheme: The scheme is not supported.
"
    );
    let refused = Ask::default().with(&policy, &all, &Books::spent(999_999), |input, d| d.explain(&policy, input, &all));
    assert!(refused.to_string().contains("verdict  refuse: cap_day"), "{refused}");
    assert!(refused.to_string().contains("Left 0.000001 of 1.00 USD. Changes at 2026-11-22T00:00:00Z."), "{refused}");
    let json = refused.to_json();
    assert_eq!(json["verdict"], "refuse");
    assert_eq!(json["reasons"][0]["reason"], "cap_day");
    assert_eq!(json["reasons"][0]["remaining_usd"], "0.000001");
    assert_eq!(json["offers"][1]["checks"][1]["ok"], false);
    assert_eq!(json["policy"], **policy.digest());
}

#[test]
fn a_closed_gate_is_explained_too() {
    let policy = allowing("[ { id: e, host: api.example } ]");
    let ask = Ask::url("https://api.example/a/../b");
    let all = challenge(vec![offer(0, BASE_USDC, 1)]);
    let shown = ask.with(&policy, &all, &Books::default(), |input, d| d.explain(&policy, input, &all)).to_string();
    assert!(shown.contains("refuse: path_not_normal") && shown.contains("  -   path_not_normal: The request path"), "{shown}");
}
