//! The thread that writes: what it keeps, what it counts together, what it drops.

use std::path::Path;

use super::*;
use crate::ledger::{Ledger, Options};
use crate::metrics::Metrics;
use crate::payment::Reason;
use crate::policy::Refusal;

const POLICY: &str = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 100 }\n    allow: [ { id: all, host: one.example, networks: [\"eip155:8453\"], assets: [USDC] } ]\n";

fn ledger(dir: &Path) -> Ledger {
    let options = Options { dir: dir.to_path_buf(), ephemeral_ok: true, accept_clock: false };
    Ledger::open(&options, crate::clock::read()).unwrap()
}

fn keep(dir: &Path) -> Keep {
    Keep { folder: dir.join("decisions"), size: 64 << 20, files: 4 }
}

fn rows(dir: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in files(&[dir.join("decisions")]).unwrap() {
        read(&file, &mut |placed| {
            rows.push(placed.row);
            Ok(true)
        })
        .unwrap();
    }
    rows
}

fn refused(reason: Reason) -> Box<Record> {
    let mut record = request("bot", "one.example", vec![offer(0, 10_000, 0x11)], NOON);
    let mut refusal = Refusal::because(reason);
    refusal.violations[0].amount = Some(MicroUsd::new(10_000));
    record.refused = Some(refusal);
    Box::new(record)
}

#[test]
fn m4_3_refusals_above_sixty_a_minute_are_counted_together_and_purchases_never() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(false);
    let log = Log::start(Some(keep(dir.path())), None, ledger(dir.path()), &metrics).unwrap().unwrap();
    for n in 0..70 {
        log.refused(refused(Reason::Busy));
        let mut record = request("bot", "one.example", vec![offer(0, 10_000, 0x11)], NOON);
        record.purchase = Some(purchase(n));
        log.bought(Box::new(record));
    }
    log.refused(refused(Reason::ClockUnsure));
    log.outcome(&purchase(0), What::Consumed, None, NOON);
    drop(log);
    let rows = rows(dir.path());
    let count = |test: fn(&Row) -> bool| rows.iter().filter(|r| test(r)).count();
    assert_eq!(count(|r| matches!(r, Row::Decision(d) if d.purchase.is_some())), 70);
    assert_eq!(count(|r| matches!(r, Row::Decision(d) if d.refused.as_ref().is_some_and(|w| w.reason == "busy"))), 60);
    assert_eq!(count(|r| matches!(r, Row::Decision(d) if d.refused.as_ref().is_some_and(|w| w.reason == "clock_unsure"))), 1);
    assert_eq!(count(|r| matches!(r, Row::Outcome(o) if o.what == What::Consumed)), 1);
    let many: Vec<_> =
        rows.iter().filter_map(|r| if let Row::Refusals(m) = r { Some((&*m.reason, m.count, m.micro)) } else { None }).collect();
    assert_eq!(many, [("busy", 10, 100_000)]);
    assert!(metrics.render().contains("tollpass_decision_log_dropped_total 0"));
}

#[test]
fn a_full_disk_drops_lines_counts_them_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("decisions")).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("decisions/decisions.jsonl")).unwrap();
    let metrics = Metrics::new(false);
    let log = Log::start(Some(keep(dir.path())), None, ledger(dir.path()), &metrics).unwrap().unwrap();
    log.refused(refused(Reason::Busy));
    log.outcome(&purchase(0), What::Kept, None, NOON);
    drop(log);
    assert!(metrics.render().contains("tollpass_decision_log_dropped_total 2"), "{}", metrics.render());
}

#[test]
fn nothing_runs_where_there_is_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Log::start(None, None, ledger(dir.path()), &Metrics::new(false)).unwrap().is_none());
    assert!(!dir.path().join("decisions").exists());
}

#[test]
fn a_draft_in_the_shadow_folds_its_own_counters() {
    let dir = tempfile::tempdir().unwrap();
    let (live, metrics) = (policy(POLICY), Metrics::new(true));
    // Two cents a day instead of a hundred dollars, and an hour that the live policy does not count.
    let draft = policy(&POLICY.replace("day: 100", "day: 0.02, hour: 0.02").replace("per_payment: 1", "per_payment: 0.02"));
    let shadow: Draft = Arc::new(arc_swap::ArcSwap::from_pointee(Some(Arc::clone(&draft))));
    let log = Log::start(Some(keep(dir.path())), Some(shadow), ledger(dir.path()), &metrics).unwrap().unwrap();
    let mut books = Logged::new(live.members());
    for n in 0..5 {
        let mut record = request("bot", "one.example", vec![offer(0, 10_000, 0x11)], NOON.plus_millis(n));
        judge(&mut record, &live, &books, &[]).verdict.unwrap();
        record.purchase = Some(purchase(usize::try_from(n).unwrap()));
        let case = Case::read(&record.to_row()).unwrap();
        books.paid(&n.to_string(), Bought::of(&case, &record.judged.as_ref().unwrap().verdict).unwrap());
        log.bought(Box::new(record));
    }
    drop(log);
    let said: Vec<_> = rows(dir.path())
        .iter()
        .filter_map(|r| if let Row::Decision(d) = r { d.shadow.clone() } else { None })
        .map(|s| (s.policy == *draft.digest(), s.verdict.say, s.verdict.lead().to_owned()))
        .collect();
    let deny = (true, Say::Deny, "cap_hour".to_owned());
    let allow = (true, Say::Allow, "none".to_owned());
    assert_eq!(said.len(), 5);
    assert_eq!(said[..2], [allow.clone(), allow]);
    assert!(said[2..].iter().all(|s| *s == deny || s.2 == "cap_day"), "{said:?}");
    let text = metrics.render();
    assert!(text.contains(r#"tollpass_shadow_decisions_total{agent="bot",live="allow",shadow="allow"} 2"#), "{text}");
    assert!(text.contains(r#"tollpass_shadow_decisions_total{agent="bot",live="allow",shadow="deny"} 3"#), "{text}");
}
