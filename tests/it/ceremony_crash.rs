//! SIGKILL of each party at each step of a creation and of a refresh: no wallet, or one that signs (S6, S7).

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use tollpass::failpoint::{CREATE, REFRESH};
use tollpass::mpc::Party;

use crate::ceremony::Trio;

fn skipped() -> bool {
    if !cfg!(feature = "failpoints") {
        println!("skipped: built without --features failpoints");
    }
    !cfg!(feature = "failpoints")
}

/// What `wallet show` says of each party: nothing, tested, or its epoch.
fn states(trio: &Trio) -> Vec<String> {
    let of = |party| match trio.show(party) {
        None => "nothing".to_owned(),
        Some(facts) if facts["state"] == "tested" => "tested".to_owned(),
        Some(facts) => format!("epoch {}", facts["epoch"]),
    };
    Party::ALL.into_iter().map(of).collect()
}

fn finish(trio: &Trio, verb: &str, party: Party, how: &str) {
    let out = if verb == "create" {
        crate::ceremony::tollpass().args(["wallet", "create", how, "--share"]).arg(trio.share(party)).output().unwrap()
    } else {
        trio.command(verb, party).arg(how).output().unwrap()
    };
    assert!(out.status.success(), "{party} {how}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A creation in which `party` dies at `failpoint`; what became of it.
fn creation_killed(failpoint: &str, party: Party) -> String {
    let trio = Trio::new();
    let commands = Party::ALL.map(|p| {
        let mut command = trio.creation(p);
        if p == party {
            command.env("TOLLPASS_FAILPOINT", failpoint);
        }
        (p, command)
    });
    let ended = trio.ceremony(Party::Cosigner, commands.into());
    assert_eq!(ended[&party].status.signal(), Some(9), "{failpoint}, {party}: never reached: {}", ended[&party].errors);
    let states = states(&trio);
    let case = format!("{failpoint}, {party}: {states:?}");
    let exists = states.iter().any(|s| s.starts_with("epoch"));
    for (p, state) in Party::ALL.into_iter().zip(&states) {
        match (state.as_str(), exists) {
            ("tested", true) => finish(&trio, "create", p, "--finish"),
            ("nothing", true) => panic!("{case}: one has a wallet that another one can never join"),
            ("tested" | "nothing", false) => {
                finish(&trio, "create", p, "--discard");
                assert!(!trio.share(p).exists() && !trio.of(p).join("share.pending").exists(), "{case}");
            }
            _ => {}
        }
    }
    if exists {
        trio.all_pairs_sign(&case);
    }
    format!("{:<40} {}", states.join(", "), if exists { "a wallet; all pairs sign" } else { "no wallet" })
}

#[test]
fn s6_killed_at_every_step_a_creation_leaves_no_wallet_or_one_that_signs() {
    if skipped() {
        return;
    }
    let mut rows = BTreeSet::new();
    println!("{:<14} {:<9} after it", "killed at", "party");
    for name in CREATE {
        for party in Party::ALL {
            println!("{name:<14} {:<9} {}", party.as_str(), creation_killed(name, party));
            rows.insert((*name, party));
        }
    }
    println!("{} kills", rows.len());
    for name in CREATE {
        assert_eq!(rows.iter().filter(|(n, _)| n == name).count(), 3, "{name} has no row for each party");
    }
}

/// A refresh in which `party` dies at `failpoint`; what became of it.
fn refresh_killed(made: &Trio, failpoint: &str, party: Party) -> String {
    let trio = made.copied();
    let commands = Party::ALL.map(|p| {
        let mut command = trio.command("refresh", p);
        if p == party {
            command.env("TOLLPASS_FAILPOINT", failpoint);
        }
        (p, command)
    });
    let ended = trio.ceremony(Party::Cosigner, commands.into());
    assert_eq!(ended[&party].status.signal(), Some(9), "{failpoint}, {party}: never reached: {}", ended[&party].errors);
    let before = states(&trio);
    let case = format!("{failpoint}, {party}: {before:?}");
    let newest = before.iter().max().unwrap().clone();
    // Two ways out, both meant for operators: alone where another screen shows the new epoch, or all three once more.
    let alone = party == Party::Cosigner;
    if alone {
        for (p, _) in Party::ALL.into_iter().zip(&before).filter(|(_, s)| **s != newest) {
            finish(&trio, "refresh", p, "--finish");
        }
    } else {
        for (p, end) in trio.refresh() {
            assert!(end.status.success(), "{case}: {p}: {}", end.errors);
        }
    }
    let after = states(&trio);
    assert!(after.iter().all(|s| *s == after[0]), "{case}: {after:?}");
    trio.all_pairs_sign(&case);
    let way = if alone { "alone" } else { "together" };
    format!("{:<28} {way:<9} {}; all pairs sign", before.join(", "), after[0])
}

#[test]
fn s7_killed_at_every_step_a_refresh_leaves_a_wallet_that_signs() {
    if skipped() {
        return;
    }
    let made = Trio::new();
    for (party, end) in made.create() {
        assert!(end.status.success(), "{party}: {}", end.errors);
    }
    let mut rows = BTreeSet::new();
    println!("{:<18} {:<9} {:<28} finished", "killed at", "party", "after it");
    // The steps of the share's own files lie between ours; `custody` has every one of them, alone.
    let custody = [("next_written", Party::Cold), ("previous_linked", Party::Sidecar), ("next_activated", Party::Cosigner)];
    let ours = REFRESH.iter().flat_map(|name| Party::ALL.map(|party| (*name, party)));
    for (name, party) in ours.chain(custody) {
        println!("{name:<18} {:<9} {}", party.as_str(), refresh_killed(&made, name, party));
        rows.insert((name, party));
    }
    println!("{} kills", rows.len());
    for name in REFRESH {
        assert_eq!(rows.iter().filter(|(n, _)| n == name).count(), 3, "{name} has no row for each party");
    }
}
