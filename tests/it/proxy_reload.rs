//! The policy of a running program follows its file, however the file is changed, and a broken one changes nothing.

use std::os::unix::fs::symlink;

use alloy_primitives::Address;

use crate::harness::{Chain, Plan, Program, Seller, Setup, Terms, eventually, shop};

struct Running {
    chain: Chain,
    seller: Seller,
    program: Program,
}

fn capped(cap: &str) -> String {
    Setup::policy_with(&format!("per_payment: {cap}, day: 100"), "", "")
}

impl Running {
    fn start(setup: Setup, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let chain = Chain::new();
        let seller = Seller::http(shop(&chain, Terms::v2(Address::repeat_byte(0x88), 50_000), |_| Plan::ok("sold")));
        Self { chain, seller, program: Program::start_with(setup, prepare) }
    }

    fn status(&self) -> u16 {
        self.program.get(&self.seller.url("/")).status
    }

    fn success(&self) -> f64 {
        self.program.metrics().sum("tollpass_policy_reload_success", &[])
    }

    fn digest(&self) -> Option<String> {
        self.program.metrics().label("tollpass_policy_info", "digest")
    }
}

#[test]
fn a_config_map_swap_takes_effect_every_time() {
    let mut setup = Setup::new();
    setup.policy_path = "mounted".into();
    let generation = |dir: &std::path::Path, n: u32, cap: &str| {
        let folder = dir.join(format!("mounted/..{n}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("policy.yaml"), capped(cap)).unwrap();
        symlink(format!("..{n}"), dir.join("mounted/..tmp")).unwrap();
        std::fs::rename(dir.join("mounted/..tmp"), dir.join("mounted/..data")).unwrap();
    };
    let running = Running::start(setup, |dir| {
        generation(dir, 1, "0.01");
        symlink("..data/policy.yaml", dir.join("mounted/policy.yaml")).unwrap();
    });
    assert_eq!(running.status(), 402);
    for (n, cap, status) in [(2, "1", 200), (3, "0.02", 402), (4, "2", 200)] {
        let before = running.digest();
        generation(running.program.dir(), n, cap);
        std::fs::remove_dir_all(running.program.path(&format!("mounted/..{}", n - 1))).unwrap();
        eventually("the new generation is in effect", || running.digest() != before);
        assert_eq!(running.status(), status, "{cap}");
    }
}

#[test]
fn a_policy_that_vanishes_keeps_the_old_one() {
    let running = Running::start(Setup::new().policy(capped("1")), |_| {});
    std::fs::remove_file(running.program.path("policy.yaml")).unwrap();
    eventually("the metric says broken", || running.success() == 0.0);
    assert_eq!(running.status(), 200);
    running.program.policy_write(&capped("0.01"));
    eventually("the metric says good", || running.success() == 1.0);
    assert_eq!(running.status(), 402);
}

#[test]
fn spend_counters_survive_a_reload() {
    let with_day = |day: &str| Setup::policy_with(&format!("per_payment: 0.05, day: {day}"), "", "");
    let running = Running::start(Setup::new().policy(with_day("10")), |_| {});
    assert_eq!([running.status(), running.status()], [200, 200]);
    running.program.policy_set(&with_day("0.12"));
    let answer = running.program.get(&running.seller.url("/"));
    assert_eq!((answer.reason().as_str(), answer.json()["remaining_usd"].as_str()), ("cap_day", Some("0.02")));
    running.program.policy_set(&with_day("0.05"));
    assert_eq!(running.program.get(&running.seller.url("/")).json()["remaining_usd"].as_str(), Some("0.00"), "below spent is nothing left, not less");
}

#[test]
fn an_open_tunnel_follows_the_new_policy() {
    let running = Running::start(Setup::new().policy(capped("1")), |_| {});
    let mut agent = running.program.agent().connect(&running.seller.authority(), "");
    let mut status = || agent.request("GET", "/", "", b"").status;
    assert_eq!(status(), 200);
    running.program.policy_set(&capped("0.01"));
    assert_eq!(status(), 402);
    running.program.policy_set(&capped("1"));
    assert_eq!(status(), 200);
}
