#![allow(clippy::unwrap_used)]
use super::*;
use crate::clock;
use crate::ledger;
use crate::payment::Timestamp;

struct Rig {
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    ledger: Ledger,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ledger::Options { dir: folder.path().to_path_buf(), ephemeral_ok: true, accept_clock: true };
        Self { ledger: Ledger::open(&options, clock::read()).unwrap(), metrics: Metrics::new(false), folder }
    }

    /// As a process that starts finds it.
    fn start(&self) -> Arc<Stops> {
        let stops = Stops::new(self.folder.path(), self.metrics.clone());
        stops.open(&self.ledger).unwrap();
        stops
    }
}

fn stopped(why: &str) -> Stopped {
    Stopped { by: "operator".into(), why: why.into(), at: Timestamp::from_secs(1_700_000_000) }
}

fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

#[test]
fn a_freeze_outlives_the_process_and_only_an_unfreeze_ends_it() {
    let rig = Rig::new();
    let (bot, shop) = (agent("bot"), host("shop.example"));
    let stops = rig.start();
    assert_eq!(stops.closed(&bot, &shop), None);
    assert!(stops.freeze(&Target::Agent(bot.clone()), stopped("odd")).unwrap());
    assert!(!stops.freeze(&Target::Agent(bot.clone()), stopped("again")).unwrap());
    assert!(stops.freeze(&Target::Host(shop.clone()), stopped("odd")).unwrap());
    drop(stops);
    let stops = rig.start();
    assert_eq!(stops.closed(&bot, &host("other.example")), Some(Reason::AgentFrozen));
    assert_eq!(stops.closed(&agent("other"), &shop), Some(Reason::HostFrozen));
    assert_eq!(&*stops.standing().agents["bot"].why, "odd", "the first cause stays");
    assert!(stops.unfreeze(&Target::Agent(bot.clone()), "socket").unwrap());
    assert!(!stops.unfreeze(&Target::Agent(bot.clone()), "socket").unwrap());
    assert_eq!(rig.start().closed(&bot, &host("other.example")), None);
    assert_eq!(rig.start().closed(&bot, &shop), Some(Reason::HostFrozen));
}

#[test]
fn a_file_by_anybodys_hand_is_a_kill_and_its_absence_the_end_of_it() {
    let rig = Rig::new();
    let (stops, file) = (rig.start(), rig.folder.path().join(KILL));
    for content in ["", "no json", "{\"by\":1}"] {
        std::fs::write(&file, content).unwrap();
        stops.look();
        assert_eq!(stops.closed(&agent("bot"), &host("a.example")), Some(Reason::Killed), "{content}");
        assert_eq!(&*stops.standing().killed.as_ref().unwrap().by, "file", "{content}");
        assert!(rig.metrics.render().contains("tollpass_killed 1"));
        std::fs::remove_file(&file).unwrap();
        stops.look();
        assert!(!stops.killed(), "{content}");
    }
    // A link that leads nowhere is a file all the same.
    std::os::unix::fs::symlink("/nowhere", &file).unwrap();
    stops.look();
    assert!(stops.killed());
}

#[test]
fn a_kill_survives_a_restart_and_says_who_and_why() {
    let rig = Rig::new();
    assert!(rig.start().kill(&stopped("strange bills")).unwrap());
    let stops = rig.start();
    assert_eq!(stops.standing().killed, Some(stopped("strange bills")));
    assert!(!stops.kill(&stopped("later")).unwrap());
    assert_eq!(&*stops.standing().killed.as_ref().unwrap().why, "strange bills");
    assert!(stops.revive().unwrap() && !stops.revive().unwrap() && !rig.start().killed());
}

#[test]
fn what_cannot_be_written_is_stopped_and_what_cannot_be_unwritten_stays_stopped() {
    let rig = Rig::new();
    let stops = rig.start();
    let bot = Target::Agent(agent("bot"));
    // A folder in its place: no rename goes over it.
    std::fs::create_dir(rig.folder.path().join("frozen.json")).unwrap();
    assert!(matches!(stops.freeze(&bot, stopped("odd")), Err(StopError::Unwritten(_))));
    assert_eq!(stops.closed(&agent("bot"), &host("a.example")), Some(Reason::AgentFrozen));
    assert!(matches!(stops.unfreeze(&bot, "socket"), Err(StopError::Kept(_))));
    assert_eq!(stops.closed(&agent("bot"), &host("a.example")), Some(Reason::AgentFrozen));
}

#[test]
fn a_broken_list_of_freezes_is_no_empty_one() {
    let rig = Rig::new();
    std::fs::write(rig.folder.path().join("frozen.json"), "{").unwrap();
    let stops = Stops::new(rig.folder.path(), rig.metrics.clone());
    assert!(stops.open(&rig.ledger).unwrap_err().to_string().contains("frozen.json"));
    assert!(matches!(stops.freeze(&Target::Agent(agent("bot")), stopped("odd")), Err(StopError::NotOurs)));
}
