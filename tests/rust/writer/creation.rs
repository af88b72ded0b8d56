//! How a journal learns of a run.

use treadle::journal::Phase;
use treadle::writer::{Answered, Durability, EndTaken, Occurrence, Written};

use super::host::{Host, Options, conflict, image_of};
use super::{mark, value};

#[test]
fn a_run_is_made_with_its_first_commit() {
    let mut host = Host::new(Options::default());
    assert!(host.commits.is_empty() && host.writer.is_unbegun(&host.run));
    host.run.set("key", value(1)).expect("it runs");
    assert!(!host.writer.is_unbegun(&host.run));
    assert!(host.flush());
    assert_eq!(host.commits.len(), 2, "its creation, and what happened to it");
    assert!(host.stored() == image_of(&host.run));
}

#[test]
fn a_run_that_nothing_has_happened_to_is_made_without_a_commit() {
    let mut host = Host::new(Options::default());
    assert!(host.flush());
    assert_eq!(host.commits.len(), 1);
    assert!(!host.flush(), "all is written");
}

#[test]
fn the_first_event_of_a_run_without_a_key_starts_before_anything_is_written() {
    let mut host = Host::new(Options::default());
    assert!(host.run.start_next(|| 0).is_some() && host.commits.is_empty());
}

#[test]
fn a_run_with_a_key_starts_nothing_before_the_key_is_its_own() {
    for durability in [Durability::Step, Durability::Pipelined] {
        let mut host = Host::new(Options { key: Some("a key"), durability, ..Options::default() });
        assert_eq!((host.commits.len(), host.run.ready()), (1, 0));
        assert!(matches!(host.hear(), Answered::MayStart));
        assert_eq!(host.run.ready(), 1);
    }
}

#[test]
fn a_run_stands_for_the_one_that_has_its_key() {
    let options = Options { key: Some("a key"), ..Options::default() };
    let first = Host::new(options);
    let mut second = Host::on(first.store.clone(), 1, options);
    match second.hear() {
        Answered::Replaced { id, input, given } => {
            assert_eq!((id, input, given), (first.run.id(), [0; 32], [1; 32]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((second.writer.stands_for(), second.writer.is_lost()), (Some(first.run.id()), false));
    mark(&mut second, Occurrence::Kept);
    assert!(second.take().is_none() && second.run.ready() == 0, "it writes nothing and starts nothing");
    assert!(!second.writer.detach(), "it is not written already");
    second.end();
    assert!(matches!(second.write_end(Phase::Completed), EndTaken::Detached(_)));
    assert!(matches!(second.hear_that(Written::End, conflict()), Answered::Over));
}
