//! Any order of sessions, bans, stops, deaths and refreshes against a model of what must be remembered.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tempfile::TempDir;

use super::tests::{AT, copy, home, key, next};
use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Session,
    Close,
    Ban,
    /// A clean stop and a start.
    Restart,
    /// As kill -9: what is on the disk at this moment is all there is.
    Die,
    Refresh,
}

/// What the folder must remember.
#[derive(Default)]
struct Model {
    banned: bool,
    unclean: u32,
    epoch: u32,
    /// Sessions open in the running process.
    open: u32,
    /// A session has been open in it: right after its end the mark may or may not stand.
    used: bool,
}

impl Model {
    const fn frozen(&self) -> bool {
        self.banned || self.unclean >= MAX_UNCLEAN
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Session),
        3 => Just(Step::Close),
        1 => Just(Step::Ban),
        2 => Just(Step::Restart),
        6 => Just(Step::Die),
        1 => Just(Step::Refresh),
    ]
}

fn start(home: &TempDir, model: &mut Model) -> Custody {
    (model.open, model.used) = (0, false);
    let opened = Custody::open(home.path(), &key());
    assert_eq!(matches!(opened, Err(CustodyError::Frozen(_))), model.frozen(), "{:?}", opened.err());
    drop(opened);
    let custody = Custody::open_for_care(home.path(), &key()).unwrap();
    assert_eq!(custody.frozen().is_some(), model.frozen());
    assert_eq!(custody.share().wallet().epoch, model.epoch);
    custody
}

fn play(steps: &[Step]) {
    let (mut home, _) = home();
    let mut model = Model { epoch: 1, ..Model::default() };
    let mut custody = start(&home, &mut model);
    for step in steps {
        match step {
            Step::Session => {
                assert_eq!(custody.session_opened().is_ok(), custody.frozen().is_none());
                if !model.frozen() {
                    model.open += 1;
                    model.used = true;
                }
            }
            Step::Close if model.open > 0 => {
                custody.session_closed();
                model.open -= 1;
            }
            Step::Ban => {
                custody.ban(Party::Cosigner, AT).unwrap();
                model.banned = true;
                assert!(custody.frozen().is_some());
            }
            Step::Restart => {
                drop(custody);
                model.unclean += u32::from(model.open > 0);
                custody = start(&home, &mut model);
            }
            // Between the last session's end and the quiet second both are right: nothing to compare.
            Step::Die if model.open > 0 || !model.used => {
                model.unclean += u32::from(model.open > 0);
                let left = copy(&home);
                drop(custody);
                home = left;
                custody = start(&home, &mut model);
            }
            Step::Refresh => {
                custody.stage_next(&next(custody.share()), &key()).unwrap();
                custody.activate_next().unwrap();
                model = Model { epoch: model.epoch + 1, ..Model::default() };
                custody = start(&home, &mut model);
                custody.destroy_previous().unwrap();
            }
            Step::Close | Step::Die => {}
        }
    }
}

proptest! {
    // A case syncs the disk some fifty times: fewer of them, and as many more as `PROPTEST_CASES` asks for.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_but_a_complete_refresh_lifts_what_was_remembered(steps in prop::collection::vec(step(), 1..40)) {
        play(&steps);
    }
}

#[test]
fn the_model_reaches_the_freeze_by_unclean_stops() {
    play(&[Step::Session, Step::Die].repeat(MAX_UNCLEAN as usize + 2));
}
