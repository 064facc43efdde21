#![allow(clippy::unwrap_used)]
use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

const QUICK: Timing = Timing { debounce: Duration::from_millis(40), poll: Duration::from_secs(3600), events: true };

/// A watched text; a text with `broken` in it does not parse, nor does an empty one (caught between truncate and write).
struct Rig {
    current: Arc<ArcSwap<String>>,
    loads: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    reloader: Reloader,
}

fn rig(path: &Path, timing: Timing) -> Rig {
    let (loads, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (l, f) = (loads.clone(), failures.clone());
    let mut builder = Builder::new(timing);
    let current = builder
        .add(Target {
            name: "text",
            path: path.to_path_buf(),
            parse: Box::new(|sources, epoch| {
                let all: Vec<&str> = sources.iter().map(|s| s.text.trim()).collect();
                let all = all.join("+");
                if all.contains("broken") || all.is_empty() { Err(vec!["f:1:1: broken".into()]) } else { Ok(format!("{epoch}:{all}")) }
            }),
            gate: None,
            loaded: Box::new(move |_| {
                l.fetch_add(1, Ordering::SeqCst);
            }),
            failed: Box::new(move || {
                f.fetch_add(1, Ordering::SeqCst);
            }),
        })
        .unwrap();
    Rig { current, loads, failures, reloader: builder.start().unwrap() }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Rig {
    fn becomes(&self, text: &str) {
        eventually(text, || **self.current.load() == text);
    }
    fn fails_once_more(&self, act: impl FnOnce()) {
        let before = self.failures.load(Ordering::SeqCst);
        act();
        eventually("failure", || self.failures.load(Ordering::SeqCst) > before);
    }
}

#[test]
fn writing_in_place_and_renaming_over_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    fs::write(&file, "a").unwrap();
    let rig = rig(&file, QUICK);
    rig.becomes("1:a");
    fs::write(&file, "b").unwrap();
    rig.becomes("2:b");
    for (n, text) in [(3, "c"), (4, "d"), (5, "e")] {
        let new = dir.path().join("p.yaml~");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
        rig.becomes(&format!("{n}:{text}"));
    }
    assert_eq!(rig.loads.load(Ordering::SeqCst), 5);
}

#[test]
fn a_broken_file_keeps_the_old_value_and_a_repaired_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    fs::write(&file, "a").unwrap();
    let rig = rig(&file, QUICK);
    rig.fails_once_more(|| fs::write(&file, "broken").unwrap());
    rig.becomes("1:a");
    rig.reloader.poke();
    rig.fails_once_more(|| fs::remove_file(&file).unwrap());
    rig.becomes("1:a");
    fs::write(&file, "a").unwrap();
    rig.becomes("2:a");
}

/// A volume as the kubelet writes it: `path/p.yaml → ..data/p.yaml`, `..data → ..<n>`.
fn volume_swap(dir: &Path, n: usize, text: &str) {
    let generation = format!("..2026_{n}");
    fs::create_dir(dir.join(&generation)).unwrap();
    fs::write(dir.join(&generation).join("p.yaml"), text).unwrap();
    symlink(&generation, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if !dir.join("p.yaml").exists() {
        symlink("..data/p.yaml", dir.join("p.yaml")).unwrap();
    }
    if n > 0 {
        fs::remove_dir_all(dir.join(format!("..2026_{}", n - 1))).unwrap();
    }
}

#[test]
fn a_data_link_swapped_three_times_is_followed() {
    let (as_file, as_folder, as_linked_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink("..data", as_linked_folder.path().join("policies")).unwrap();
    let cases = [
        (as_file.path(), as_file.path().join("p.yaml")),
        (as_folder.path(), as_folder.path().to_path_buf()),
        (as_linked_folder.path(), as_linked_folder.path().join("policies")),
    ];
    for (dir, watched) in cases {
        volume_swap(dir, 0, "zero");
        let rig = rig(&watched, QUICK);
        rig.becomes("1:zero");
        for (n, text) in [(1, "one"), (2, "two"), (3, "three")] {
            volume_swap(dir, n, text);
            rig.becomes(&format!("{}:{text}", n + 1));
        }
    }
}

#[test]
fn a_folder_is_read_in_name_order_without_dot_entries() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), (".hidden.yaml", "broken"), ("notes.txt", "broken"), ("..old.yaml", "broken")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let rig = rig(dir.path(), QUICK);
    rig.becomes("1:a+b");
    fs::write(dir.path().join("c.yaml"), "c").unwrap();
    rig.becomes("2:a+b+c");
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    rig.becomes("3:b+c");
}

#[test]
fn a_folder_that_is_replaced_is_watched_again() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    fs::create_dir(&policies).unwrap();
    fs::write(policies.join("a.yaml"), "a").unwrap();
    let rig = rig(&policies, QUICK);
    let new = dir.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("a.yaml"), "b").unwrap();
    fs::rename(&policies, dir.path().join("old")).unwrap();
    fs::rename(&new, &policies).unwrap();
    eventually("b", || rig.current.load().ends_with(":b"));
    fs::write(policies.join("a.yaml"), "c").unwrap();
    eventually("c", || rig.current.load().ends_with(":c"));
}

#[test]
fn without_events_the_poll_sees_it_and_without_both_a_poke_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    fs::write(&file, "a").unwrap();
    let polled = rig(&file, Timing { poll: Duration::from_millis(50), events: false, ..QUICK });
    let poked = rig(&file, Timing { events: false, ..QUICK });
    fs::write(&file, "b").unwrap();
    polled.becomes("2:b");
    assert_eq!(**poked.current.load(), "1:a");
    poked.reloader.poke();
    poked.becomes("2:b");
}

#[test]
fn reading_the_file_ourselves_does_not_wake_us_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    fs::write(&file, "a").unwrap();
    let (sender, receiver) = channel();
    let mut watch = Watch::start(Some(sender));
    watch.follow(std::iter::once(file.as_path()));
    read_policy_sources(&file).unwrap();
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err());
    fs::write(&file, "b").unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(Signal::Changed));
}

#[test]
fn at_start_there_is_nothing_to_fall_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = Builder::default();
    let missing = builder.tokens(&dir.path().join("none.yaml")).unwrap_err();
    assert!(missing.to_string().contains("none.yaml: cannot be read: "), "{missing}");
    assert!(read_policy_sources(dir.path()).unwrap_err().to_string().contains("no *.yaml"));
    fs::write(dir.path().join("t.yaml"), "agent: {}").unwrap();
    let broken = builder.tokens(&dir.path().join("t.yaml")).unwrap_err().to_string();
    assert!(broken.contains("t.yaml:1:1: unknown key `agent`"), "{broken}");
}

#[test]
fn cases_in_a_folder_are_no_policies() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.yaml", "a.yml", "a.test.yaml", "b.test.yml"] {
        fs::write(dir.path().join(name), "version: 1\n").unwrap();
    }
    let sources = read_policy_sources(dir.path()).unwrap();
    let names: Vec<&str> = sources.iter().map(|s| s.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.yml", "b.yaml"]);
    for name in ["b.yaml", "a.yml"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(read_policy_sources(dir.path()).unwrap_err().to_string().contains("no *.yaml"), "cases alone are no policy");
}
