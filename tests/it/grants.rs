//! Grants on the whole stack: what the co-signer refuses is paid once an approver's key has said yes to exactly that payment (S5).

use alloy_primitives::{U256, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollpass::cosigner::grant::Grant;
use tollpass::wire::identity;

use crate::harness::{Agent, Cosigner, Plan, Response, Setup, Wallet, sha256, tollpass};
use crate::till::Till;

struct Rig {
    till: Till,
    _cosigner: Cosigner,
    wallet: Wallet,
}

/// The co-signer allows half a cent, and these people's keys to lift that; the proxy asks about everything above it.
#[track_caller]
fn rig(people: &[&str], quorum: u32) -> Rig {
    let wallet = Wallet::new();
    let keys: Vec<String> = people
        .iter()
        .map(|who| {
            let made = tollpass(&wallet.path("cs"), &["approvals", "key", &format!("{who}.pem"), "--new", "--json"]);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let made: Value = serde_json::from_slice(&made.stdout).unwrap();
            format!("\"{}\"", made["public"].as_str().unwrap())
        })
        .collect();
    let text = format!(
        "version: 1\nagents:\n  bot:\n    caps: {{ per_payment: 0.005, day: 5 }}\n    allow:\n      - {{ id: cs-shop, host: [localhost, 127.0.0.1], \
         networks: [\"eip155:84532\"], assets: [USDC], pay_to: [\"{}\"], plain_http: true }}\n\
         approvers:\n  finance: {{ quorum: {quorum}, keys: [{}], may_exceed: [caps.per_payment] }}\n",
        crate::till::payee(),
        keys.join(", ")
    );
    std::fs::write(wallet.path("cs/policy.yaml"), text).unwrap();
    let cosigner = wallet.start(&[]);
    wallet.enroll();
    let rules = "    rules: [ { id: dear, when: 'price.usd > usd(\"0.005\")', then: { ask: finance } } ]\n";
    let policy = Setup::policy_with("per_payment: 5, day: 1000", "", rules);
    let policy = format!("{policy}defaults: {{ hold: 1s }}\napprovers: {{ finance: {{ quorum: {quorum} }} }}\n");
    let line = |who: &&str| {
        let hash = hex::encode(sha256(format!("the token of {who}").as_bytes()));
        format!("  {who}: {{ roles: [approve], tokens: [\"sha256:{hash}\"] }}\n")
    };
    let operators = format!("operators:\n{}", people.iter().map(line).collect::<String>());
    let mut setup = Setup::new().signer(&wallet.signer("")).env("UNSEAL", "correct horse").policy(policy).file("operators.yaml", operators);
    for who in people {
        setup = setup.env(&who.to_uppercase(), &format!("the token of {who}"));
    }
    setup.more = "admin: { tokens: file:operators.yaml }\n".into();
    let till = Till::new(setup, |_| Plan::ok("sold"));
    Rig { till, _cosigner: cosigner, wallet }
}

impl Rig {
    #[track_caller]
    fn asked(&self, path: &str) -> String {
        let refused = self.till.get(path);
        assert_eq!((refused.status, refused.reason().as_str()), (402, "approval_required"), "{}", refused.text());
        refused.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// Whether the command was done, and what it said.
    fn approve(&self, ticket: &str, who: &str, more: &[&str]) -> (bool, String) {
        let token = format!("env:{}", who.to_uppercase());
        let args = [&["approvals", "approve", ticket, "--token", &token][..], more].concat();
        let output = self.till.program.run(&args);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[track_caller]
    fn sign(&self, ticket: &str, who: &str) {
        let key = self.wallet.path(&format!("cs/{who}.pem"));
        let (done, said) = self.approve(ticket, who, &["--key", key.to_str().unwrap(), "--exceeds", "caps.per_payment"]);
        assert!(done, "{said}");
    }

    #[track_caller]
    fn refused(&self, path: &str, reason: &str) {
        let response = self.till.get(path);
        assert_eq!((response.status, response.reason().as_str()), (402, reason), "{}", response.text());
        assert_eq!(response.json()["by"], "cosigner", "{}", response.text());
    }

    #[track_caller]
    fn ticket(&self, id: &str) -> Value {
        let output = self.till.program.run(&["approvals", "show", id, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A grant by hand, put beside `to`.
    fn bring(&self, to: &str, grant: &[u8]) -> Response {
        let headers = format!("Host: {}\r\nAuthorization: Bearer the token of ann\r\n", self.till.program.admin());
        let body = json!({ "grant": STANDARD.encode(grant) }).to_string();
        Agent::to(self.till.program.admin()).request("POST", &format!("/v1/approvals/{to}/grant"), &headers, body.as_bytes())
    }

    /// What `ann` would sign for a ticket, written from the format alone.
    fn grant(&self, id: &str, change: impl FnOnce(&mut Grant)) -> Vec<u8> {
        let ticket = self.ticket(id);
        let bytes = |name: &str| hex::decode(ticket[name].as_str().unwrap()).unwrap();
        let mut grant = Grant {
            version: 1,
            ticket: bytes("id").try_into().unwrap(),
            purchase: bytes("purchase").try_into().unwrap(),
            agent: "bot".into(),
            chain: 84532,
            token: bytes("token").try_into().unwrap(),
            from: self.wallet.address.into(),
            to: crate::till::payee().into(),
            value: U256::from(crate::till::CENT).to_be_bytes(),
            exceeds: vec!["caps.per_payment".into()],
            expires: 4_000_000_000,
        };
        change(&mut grant);
        grant.sign(&identity::load_or_refuse(&self.wallet.path("cs/ann.pem")).unwrap())
    }
}

#[test]
fn s5_above_the_co_signers_limit_it_takes_an_approvers_key_and_only_for_that_payment() {
    let rig = rig(&["ann"], 1);
    let ticket = rig.asked("/1");
    assert!(rig.approve(&ticket, "ann", &[]).0);
    rig.refused("/1", "cap_per_payment");
    assert!(rig.till.chain.transfers().is_empty(), "a yes at the proxy lifts nothing at the co-signer");

    let ticket = rig.asked("/1");
    let kept = rig.grant(&ticket, |_| ());
    rig.sign(&ticket, "ann");
    assert_eq!(rig.ticket(&ticket)["grants"], json!(["ann"]));
    assert_eq!(rig.till.get("/1").status, 200);
    assert_eq!(rig.till.chain.transfers().len(), 1);

    // The same grant beside another question, which somebody says yes to.
    let second = rig.asked("/2");
    assert_eq!(rig.bring(&second, &kept).status, 200, "the proxy does not read it");
    assert!(rig.approve(&second, "ann", &[]).0);
    rig.refused("/2", "grant_invalid");

    type Change = fn(&mut Grant);
    let wrong: [(&str, Change); 4] = [
        ("another amount", |g| g.value = U256::from(1).to_be_bytes()),
        ("another payee", |g| g.to = [9; 20]),
        ("another purchase", |g| g.purchase = [9; 16]),
        ("a limit that is not theirs", |g| g.exceeds = vec!["caps.day".into()]),
    ];
    for (what, change) in wrong {
        let ticket = rig.asked("/2");
        assert_eq!(rig.bring(&ticket, &rig.grant(&ticket, change)).status, 200);
        assert!(rig.approve(&ticket, "ann", &[]).0, "{what}");
        rig.refused("/2", "grant_invalid");
    }
    assert_eq!(rig.till.chain.transfers().len(), 1);
    let ticket = rig.asked("/2");
    rig.sign(&ticket, "ann");
    assert_eq!(rig.till.get("/2").status, 200);
    assert_eq!(rig.till.chain.transfers().len(), 2);
    assert_eq!(rig.bring(&ticket, &kept).status, 409, "it was used");
}

#[test]
fn s5_a_co_signer_that_asks_for_two_keys_takes_no_less() {
    let rig = rig(&["ann", "bob"], 2);
    let ticket = rig.asked("/1");
    rig.sign(&ticket, "ann");
    assert!(rig.approve(&ticket, "bob", &[]).0);
    rig.refused("/1", "grant_invalid");
    let ticket = rig.asked("/1");
    rig.sign(&ticket, "ann");
    rig.sign(&ticket, "bob");
    assert_eq!(rig.ticket(&ticket)["grants"], json!(["ann", "bob"]));
    assert_eq!(rig.till.get("/1").status, 200);
    assert_eq!(rig.till.chain.transfers().len(), 1);
}

#[test]
fn an_approvers_key_is_made_once_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = tollpass(dir.path(), args);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (made, public) = run(&["approvals", "key", "a.pem", "--new"]);
    assert!(made && public.starts_with("MFkw"), "{public}");
    assert_eq!(std::fs::metadata(dir.path().join("a.pem")).unwrap().permissions().mode() & 0o777, 0o400);
    assert!(!run(&["approvals", "key", "a.pem", "--new"]).0, "never overwritten");
    assert_eq!(run(&["approvals", "key", "a.pem"]), (true, public));
    std::fs::set_permissions(dir.path().join("a.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!run(&["approvals", "key", "a.pem"]).0, "open to others");
}
