//! Folding what is loaded.

use proptest::prelude::*;
use treadle::history::{self, Edits, Fork, History, HistoryError, Trusted};
use treadle::journal::Sign;
use treadle::{Error, FormatError, Record, RunId};

use super::live::{Live, places, run_dry};
use super::{carried_out, new_image, set, signer, written};

fn signs() -> impl Strategy<Value = Sign> {
    prop::sample::select(vec![Sign::Opaque, Sign::All])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_run_is_folded_as_it_was_live_after_each_operation_and_a_fork_of_every_point_goes_on(
        operations in prop::collection::vec((any::<u8>(), any::<usize>()), 0..60),
        sign in signs(),
    ) {
        let mut live = Live::new(sign);
        operations.into_iter().for_each(|(operation, which)| live.operate(operation, which));
        let (loaded, signer) = (live.loaded(), signer(sign));
        let history = History::new(&loaded, Trusted::Signed(&signer));
        let last = history::continuation(&loaded, &signer).unwrap();
        prop_assert_eq!(&last.image, &live.run.image());
        for (number, image) in &live.images {
            prop_assert_eq!(&history.image_at(*number).unwrap(), image);
        }
        let between: Vec<_> = live.images.values().map(places).collect();
        for at in history.points().unwrap() {
            let id = RunId::new(9, [at as u8; 10]);
            let fork = Fork { id, at: Some(at), stream: &[], edits: Edits::default() };
            let forked = carried_out(history::fork(&loaded, fork, &signer, 5_000).unwrap(), &loaded);
            let image = history::continuation(&forked, &signer).unwrap().image;
            prop_assert_eq!(image.id, id);
            prop_assert!(between.contains(&places(&image)), "no event is on its way after record {}", at);
            prop_assert!(run_dry(image), "the fork at record {} comes to its end", at);
        }
    }

    #[test]
    fn a_log_that_lacks_a_record_or_has_one_too_many_is_refused(
        operations in prop::collection::vec((any::<u8>(), any::<usize>()), 10..40),
        sign in signs(),
    ) {
        let mut live = Live::new(sign);
        operations.into_iter().for_each(|(operation, which)| live.operate(operation, which));
        let (mut loaded, signer) = (live.loaded(), signer(sign));
        if let Some(last) = loaded.records.pop() {
            prop_assert!(is_incomplete(&History::new(&loaded, Trusted::Signed(&signer))));
            loaded.records.extend([last.clone(), last]);
            prop_assert!(is_incomplete(&History::new(&loaded, Trusted::Signed(&signer))));
        }
    }
}

fn is_incomplete(history: &History<'_>) -> bool {
    history.image() == Err(Error::InvalidRecord("the log does not end where the journal says"))
}

#[test]
fn a_record_in_the_place_of_another_is_refused() {
    let mut loaded = written(&new_image(), 0, &[set("a", "1"), set("b", "2")], Sign::Opaque);
    loaded.records.swap(0, 1);
    let signer = signer(Sign::Opaque);
    let refused = History::new(&loaded, Trusted::Signed(&signer)).image().unwrap_err();
    assert!(refused.is_damage(), "{refused}");
}

#[test]
fn where_all_must_be_signed_a_log_that_is_not_is_refused_but_can_be_shown() {
    let loaded = written(&new_image(), 3, &[set("a", "1")], Sign::Opaque);
    let strict = signer(Sign::All);
    let refused = History::new(&loaded, Trusted::Signed(&strict)).image().unwrap_err();
    assert!(matches!(refused, Error::Format(FormatError::NotSignedWhole { .. })));
    assert_eq!(History::new(&loaded, Trusted::Nothing).image().unwrap().state.len(), 1);
}

#[test]
fn the_state_before_the_checkpoint_is_not_known() {
    let loaded = written(&new_image(), 3, &[set("a", "1")], Sign::Opaque);
    let signer = signer(Sign::Opaque);
    let history = History::new(&loaded, Trusted::Signed(&signer));
    assert_eq!(history.image_at(2), Err(Error::Folded { first: 3 }));
    assert_eq!(history.image_at(3).unwrap().state.len(), 0);
    assert_eq!(history.image_at(4).unwrap().state.len(), 1);
    let fork = Fork { id: RunId::new(9, [0; 10]), at: Some(2), stream: &[], edits: Edits::default() };
    let refused = history::fork(&loaded, fork, &signer, 5);
    assert_eq!(refused, Err(HistoryError::NoSuchPoint { first: 3, last: 4 }));
}

#[test]
fn a_run_that_has_ended_is_also_known_as_if_it_had_not() {
    let records = [set("a", "1"), Record::Ended, set("b", "2")];
    let loaded = written(&new_image(), 0, &records, Sign::Opaque);
    let signer = signer(Sign::Opaque);
    let history = History::new(&loaded, Trusted::Signed(&signer));
    let (ended, without) = (history.image().unwrap(), history.image_without_end().unwrap());
    assert_eq!((ended.status, ended.state.len()), (treadle::Status::Ended, 2));
    assert_eq!((without.status, without.state.len()), (treadle::Status::Running, 2));
    assert_eq!(history.points().unwrap(), 0..=1);
}
