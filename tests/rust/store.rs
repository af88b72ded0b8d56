//! The store against the simplest thing that could be one: a list of pairs.

use std::collections::HashSet;
use std::rc::Rc;

use proptest::prelude::*;
use treadle::Store;

const KEYS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "\0",
    "key",
    "Key",
    "ключ",
    "🙂",
    "a long key that no short-key path can hold whole",
    ",",
    "\"",
];

#[derive(Clone, Debug)]
enum Op {
    Set(usize, i32),
    Delete(usize),
    /// Sets with the version that the key has now.
    SetCurrent(usize, i32),
    /// Sets with a version that the key had some time ago, if it did.
    SetStale(usize, i32, usize),
}

fn op(keys: usize) -> impl Strategy<Value = Op> {
    let key = 0..keys;
    prop_oneof![
        4 => (key.clone(), any::<i32>()).prop_map(|(key, value)| Op::Set(key, value)),
        4 => key.clone().prop_map(Op::Delete),
        1 => (key.clone(), any::<i32>()).prop_map(|(key, value)| Op::SetCurrent(key, value)),
        1 => (key, any::<i32>(), any::<usize>()).prop_map(|(key, value, at)| Op::SetStale(key, value, at)),
    ]
}

#[derive(Default)]
struct Model {
    pairs: Vec<(usize, i32)>,
}

impl Model {
    fn get(&self, key: usize) -> Option<i32> {
        self.pairs.iter().find(|pair| pair.0 == key).map(|pair| pair.1)
    }

    fn set(&mut self, key: usize, value: i32) -> Option<i32> {
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.0 == key) {
            return Some(std::mem::replace(&mut pair.1, value));
        }
        self.pairs.push((key, value));
        None
    }

    fn delete(&mut self, key: usize) -> Option<i32> {
        let at = self.pairs.iter().position(|pair| pair.0 == key)?;
        Some(self.pairs.remove(at).1)
    }
}

fn check_history(name: impl Fn(usize) -> String, keys: usize, ops: Vec<Op>) {
    let mut store = Store::default();
    let mut model = Model::default();
    let mut versions: Vec<(usize, u64)> = Vec::new();
    let mut seen = HashSet::new();
    for op in ops {
        let wrote = match op {
            Op::Set(key, value) => {
                assert_eq!(store.set(&name(key), value), model.set(key, value));
                Some(key)
            }
            Op::Delete(key) => {
                assert_eq!(store.delete(&name(key)), model.delete(key));
                None
            }
            Op::SetCurrent(key, value) => {
                let version = store.get_versioned(&name(key)).map(|(_, version)| version);
                assert_eq!(store.compare_and_set(&name(key), version, value), Ok(model.set(key, value)));
                Some(key)
            }
            Op::SetStale(key, value, at) => {
                let now = store.get_versioned(&name(key)).map(|(_, version)| version);
                let old: Vec<_> = versions.iter().filter(|seen| seen.0 == key && Some(seen.1) != now).collect();
                if !old.is_empty() {
                    let stale = old[at % old.len()].1;
                    assert_eq!(store.compare_and_set(&name(key), Some(stale), value), Err(value));
                    assert_eq!(store.get_versioned(&name(key)).map(|(_, version)| version), now);
                }
                if now.is_some() {
                    assert_eq!(store.compare_and_set(&name(key), None, value), Err(value));
                }
                None
            }
        };
        if let Some(key) = wrote {
            let (_, version) = store.get_versioned(&name(key)).expect("just written");
            assert!(seen.insert(version), "a write gives a version that no key had before");
            versions.push((key, version));
        }
        assert_eq!(store.len(), model.pairs.len());
        assert_eq!(store.is_empty(), model.pairs.is_empty());
        let expected: Vec<_> = model.pairs.iter().map(|&(key, value)| (name(key), value)).collect();
        let found: Vec<_> = store.iter().map(|(key, &value)| (key.to_owned(), value)).collect();
        assert_eq!(found, expected);
    }
    for key in 0..keys {
        assert_eq!(store.get(&name(key)).copied(), model.get(key));
        assert_eq!(store.contains(&name(key)), model.get(key).is_some());
        assert_eq!(store.get_versioned(&name(key)).map(|(&value, _)| value), model.get(key));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_a_list_of_pairs_in_the_order_of_the_first_set(
        ops in prop::collection::vec(op(KEYS.len()), 0..200),
    ) {
        check_history(|key| KEYS[key].to_owned(), KEYS.len(), ops);
    }

    #[test]
    fn it_is_the_same_list_when_holes_are_closed(ops in prop::collection::vec(op(60), 0..400)) {
        check_history(|key| format!("key {key}"), 60, ops);
    }
}

#[test]
fn an_empty_store_has_nothing() {
    let mut store: Store<i32> = Store::default();
    assert!(store.is_empty());
    assert_eq!((store.delete(""), store.len()), (None, 0));
    assert_eq!((store.get(""), store.iter().next()), (None, None));
}

#[test]
fn a_key_set_again_keeps_its_place_and_one_deleted_and_set_goes_to_the_end() {
    let mut store = Store::default();
    for key in ["a", "b", "c"] {
        store.set(key, 1);
    }
    assert_eq!(store.set("a", 2), Some(1));
    assert_eq!(store.delete("b"), Some(1));
    assert_eq!(store.set("b", 3), None);
    assert_eq!(store.iter().collect::<Vec<_>>(), [("a", &2), ("c", &1), ("b", &3)]);
}

#[test]
fn a_key_that_was_deleted_and_set_again_does_not_have_its_old_version() {
    let mut store = Store::default();
    store.set("a", 1);
    let (_, old) = store.get_versioned("a").unwrap();
    store.delete("a");
    assert_eq!(store.compare_and_set("a", Some(old), 2), Err(2));
    store.set("a", 1);
    assert_eq!(store.compare_and_set("a", Some(old), 2), Err(2));
    assert_eq!(store.get("a"), Some(&1));
}

#[test]
fn writing_another_key_leaves_a_version_as_it_is() {
    let mut store = Store::default();
    store.set("a", 1);
    let (_, version) = store.get_versioned("a").unwrap();
    store.set("b", 1);
    store.delete("b");
    assert_eq!(store.compare_and_set("a", Some(version), 2), Ok(Some(1)));
}

#[test]
fn a_hundred_thousand_keys_keep_their_order_through_deletes() {
    let names: Vec<_> = (0..100_000).map(|number| format!("key {number}")).collect();
    let mut store = Store::default();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(store.set(name, number), None);
    }
    let is_kept = |number: usize| number.is_multiple_of(7);
    for (number, name) in names.iter().enumerate().filter(|(number, _)| !is_kept(*number)) {
        assert_eq!(store.delete(name), Some(number));
    }
    let expected: Vec<_> = (0..names.len()).filter(|&number| is_kept(number)).collect();
    assert_eq!(store.len(), expected.len());
    assert_eq!(store.iter().map(|(_, &number)| number).collect::<Vec<_>>(), expected);
    for (number, name) in names.iter().enumerate() {
        assert_eq!(store.get(name).copied(), is_kept(number).then_some(number));
    }
}

#[test]
fn keys_that_come_and_go_leave_nothing_behind() {
    let live = Rc::new(());
    let mut store = Store::default();
    for number in 0..50_000 {
        store.set(&format!("key {number}"), live.clone());
        if number >= 20 {
            assert!(store.delete(&format!("key {}", number - 20)).is_some());
        }
        assert_eq!(Rc::strong_count(&live), store.len() + 1);
    }
    let keys: Vec<_> = store.iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(keys, (49_980..50_000).map(|number| format!("key {number}")).collect::<Vec<_>>());
}

#[test]
fn the_keys_and_values_are_taken_out_in_their_order() {
    let mut store = Store::default();
    for (number, key) in KEYS.iter().enumerate() {
        store.set(key, number);
    }
    store.delete(KEYS[1]);
    store.set(KEYS[0], 100);
    let left: Vec<_> = store.iter().map(|(key, number)| (Box::from(key), *number)).collect();
    assert_eq!(left.len(), KEYS.len() - 1);
    assert_eq!(store.into_pairs().collect::<Vec<_>>(), left);
}
