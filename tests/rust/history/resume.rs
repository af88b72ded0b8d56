//! Runs that go on in the epoch in which they were claimed.

use treadle::history::{self, HistoryError};
use treadle::journal::{Phase, Request, Sign, Status};

use super::{RUN, carried_out, new_image, set, signer, written};

#[test]
fn a_run_goes_on_behind_its_last_record() {
    for sign in [Sign::Opaque, Sign::All] {
        let loaded = written(&new_image(), 3, &[set("a", "1"), set("b", "2")], sign);
        let mut resumed = history::continuation(&loaded, &signer(sign)).unwrap();
        assert_eq!((resumed.epoch, resumed.seq, resumed.image.state.len()), (4, 5, 2));
        let next = resumed.chain.encode(RUN, 6, &set("c", "3"), &signer(sign).secrets).unwrap();
        let mut longer = loaded.clone();
        longer.records.push(next.to_vec());
        longer.run.seq = 6;
        assert_eq!(history::continuation(&longer, &signer(sign)).unwrap().image.state.len(), 3);
    }
}

#[test]
fn a_plan_with_other_steps_or_others_in_their_places_cannot_go_on_at_once() {
    let loaded = written(&new_image(), 0, &[], Sign::Opaque);
    let resumed = history::continuation(&loaded, &signer(Sign::Opaque)).unwrap();
    assert!(resumed.has_steps(["one", "two"]));
    for steps in [&["one"][..], &["two", "one"], &["one", "two", "three"], &["one", "three"]] {
        assert!(!resumed.has_steps(steps.iter().copied()), "{steps:?}");
    }
}

#[test]
fn a_checkpoint_with_other_steps_keeps_how_far_the_run_is() {
    for sign in [Sign::Opaque, Sign::All] {
        let mut loaded = written(&new_image(), 3, &[set("a", "1")], sign);
        loaded.run.status = Status { phase: Phase::Waiting, due: Some(77) };
        let mut image = history::continuation(&loaded, &signer(sign)).unwrap().image;
        image.steps.push("three".into());
        let request = history::renumber(&loaded, &image, &signer(sign), 9, 1 << 20).unwrap();
        let Request::Append { run: RUN, epoch: 4, after: 4, commit } = &request else { panic!("{request:?}") };
        assert_eq!((commit.status, commit.at), (loaded.run.status, 9));
        let renumbered = carried_out(request, &loaded);
        let resumed = history::continuation(&renumbered, &signer(sign)).unwrap();
        assert!(resumed.has_steps(["one", "two", "three"]));
    }
}

#[test]
fn a_checkpoint_that_no_commit_has_room_for_is_refused() {
    let loaded = written(&new_image(), 0, &[], Sign::Opaque);
    let image = new_image();
    let refused = history::renumber(&loaded, &image, &signer(Sign::Opaque), 9, 10).unwrap_err();
    let HistoryError::TooLarge { bytes, limit: 10 } = refused else { panic!("{refused}") };
    let fits = history::renumber(&loaded, &image, &signer(Sign::Opaque), 9, bytes);
    assert!(fits.is_ok());
}
