//! `hours` (M2.1, M3.7): half-open stretches of days by the clock on the wall.

use super::*;
use crate::policy::hours::Hours;
use crate::policy::read::Report;

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn hours(text: &str) -> Hours {
    let mut report = Report::default();
    let node = crate::policy::yaml::parse("p", text, &mut report.errors).unwrap();
    let hours = Hours::read(&node, &mut report).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    hours
}

fn zone(name: &str) -> jiff::tz::TimeZone {
    jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
}

#[test]
fn m2_1_hours_are_half_open_and_cross_midnight_with_their_first_day() {
    let office = r#"{ days: mon-fri, from: "09:00", to: "17:00", holidays: [2026-12-25] }"#;
    let night = r#"{ days: fri, from: "22:00", to: "06:00" }"#;
    let round = r#"{ days: sat, from: "09:00", to: "09:00" }"#;
    for (text, now, inside) in [
        (office, "2026-11-27T08:59:59.999Z", false),
        (office, "2026-11-27T09:00:00Z", true),
        (office, "2026-11-27T16:59:59.999Z", true),
        (office, "2026-11-27T17:00:00Z", false),
        (office, "2026-11-28T12:00:00Z", false),
        (office, "2026-12-25T12:00:00Z", false),
        (night, "2026-11-27T21:59:59Z", false),
        (night, "2026-11-27T22:00:00Z", true),
        (night, "2026-11-28T05:59:59Z", true),
        (night, "2026-11-28T06:00:00Z", false),
        (night, "2026-11-27T05:00:00Z", false),
        (night, "2026-11-28T22:00:00Z", false),
        (round, "2026-11-28T08:59:59Z", false),
        (round, "2026-11-28T09:00:00Z", true),
        (round, "2026-11-29T08:59:59Z", true),
        (round, "2026-11-29T09:00:00Z", false),
        ("{ days: [mon, wed] }", "2026-11-25T00:00:00Z", true),
        ("{ days: [mon, wed] }", "2026-11-26T00:00:00Z", false),
        ("{ days: sat-mon }", "2026-11-30T23:59:59Z", true),
        (r#"{ from: "20:00", to: "24:00" }"#, "2026-11-27T23:59:59Z", true),
        (r#"{ from: "20:00", to: "24:00" }"#, "2026-11-28T00:00:00Z", false),
        (r#"{ from: "20:00" }"#, "2026-11-28T00:00:00Z", false),
        ("{}", "2026-11-28T00:00:00Z", true),
    ] {
        assert_eq!(hours(text).contains(at(now), &zone("UTC")), inside, "{text} {now}");
    }
}

#[test]
fn m3_7_hours_are_wall_clock_also_in_gaps_and_folds() {
    let early = hours(r#"{ from: "01:30", to: "02:30" }"#);
    let new_york = zone("America/New_York");
    for (now, inside) in [
        // The fold: 01:30 to 02:00 comes twice.
        ("2026-11-01T05:29:59Z", false),
        ("2026-11-01T05:30:00Z", true),
        ("2026-11-01T06:00:00Z", false),
        ("2026-11-01T06:29:59Z", false),
        ("2026-11-01T06:30:00Z", true),
        ("2026-11-01T07:29:59Z", true),
        ("2026-11-01T07:30:00Z", false),
        // The gap: 02:00 to 03:00 does not come.
        ("2026-03-08T06:30:00Z", true),
        ("2026-03-08T06:59:59Z", true),
        ("2026-03-08T07:00:00Z", false),
    ] {
        assert_eq!(early.contains(at(now), &new_york), inside, "{now}");
    }
    assert!(!hours(r#"{ from: "09:00", to: "17:00" }"#).contains(at("2026-11-27T13:59:59Z"), &zone("America/Lima")));
    assert!(hours(r#"{ from: "09:00", to: "17:00" }"#).contains(at("2026-11-27T14:00:00Z"), &zone("America/Lima")));
}

#[test]
fn a_refusal_says_when_the_hours_begin() {
    let office = hours(r#"{ days: mon-fri, from: "09:00", to: "17:00", holidays: [2026-11-30] }"#);
    let next = |now: &str| office.next(at(now), &zone("UTC")).map(|t| t.rfc3339());
    assert_eq!(next("2026-11-27T08:00:00Z").as_deref(), Some("2026-11-27T09:00:00Z"));
    assert_eq!(next("2026-11-27T17:00:00Z").as_deref(), Some("2026-12-01T09:00:00Z"), "weekend and holiday");
    assert_eq!(next("2026-12-01T09:00:00Z").as_deref(), Some("2026-12-02T09:00:00Z"), "after now, not now");
    let gap = hours(r#"{ from: "02:30", to: "04:00" }"#);
    let next = gap.next(at("2026-03-08T06:00:00Z"), &zone("America/New_York")).unwrap();
    assert_eq!(next.rfc3339(), "2026-03-08T07:00:00Z", "the clock jumps over 02:30 to 03:00");
    let text = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 0.05, day: 1 }\n    hours: { days: mon }\n    allow: [ { id: e, host: api.example } ]\n";
    let refused = Ask::default().of(&policy(text), vec![usdc(1)], &Books::default()).verdict.unwrap_err();
    let said = &refused.violations[0];
    assert_eq!((said.reason, said.resets_at.unwrap().rfc3339().as_str()), (Reason::OutsideHours, "2026-11-23T00:00:00Z"));
}

#[test]
fn hours_lie_in_others_if_days_and_times_do_and_at_least_as_much_is_a_holiday() {
    let stretch = |from: &str, to: &str| format!("{{ from: \"{from}\", to: \"{to}\" }}");
    let office = stretch("09:00", "17:00");
    for (inner, outer, within) in [
        (office.clone(), office.clone(), true),
        (stretch("10:00", "16:00"), office.clone(), true),
        (stretch("09:00", "16:00"), office.clone(), true),
        (stretch("10:00", "17:00"), office.clone(), true),
        (stretch("08:59", "16:00"), office.clone(), false),
        (stretch("10:00", "17:01"), office.clone(), false),
        (stretch("10:00", "24:00"), office.clone(), false),
        (stretch("10:00", "24:00"), stretch("09:00", "24:00"), true),
        (stretch("08:59", "24:00"), stretch("09:00", "24:00"), false),
        // Over midnight, and round the clock: only as they are.
        (stretch("22:00", "06:00"), stretch("22:00", "06:00"), true),
        (stretch("22:00", "06:00"), stretch("09:00", "24:00"), false),
        (stretch("09:00", "09:00"), stretch("08:00", "17:00"), false),
        // Days and holidays.
        ("{ days: mon-fri }".into(), "{ days: mon-sat }".into(), true),
        ("{ days: mon-sat }".into(), "{ days: mon-fri }".into(), false),
        ("{ holidays: [2026-12-25, 2026-12-26] }".into(), "{ holidays: [2026-12-25] }".into(), true),
        ("{ holidays: [2026-12-25] }".into(), "{ holidays: [2026-12-25, 2026-12-26] }".into(), false),
    ] {
        assert_eq!(hours(&inner).is_within(&hours(&outer)), within, "{inner} {outer}");
    }
}
