//! Digests: one for each content, whatever the order of what has none.

use proptest::prelude::*;
use treadle::digest::{ContentDigest, Encoder, Kind, LONGEST_INLINE, VERSION, addressed, version_of_input};

#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Set(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

fn encode(to: &mut Encoder, tree: &Tree) {
    match tree {
        Tree::Int(number) => to.int(*number),
        Tree::Float(number) => to.float(*number),
        Tree::Text(text) => to.leaf(Kind::Text, text.as_bytes()),
        Tree::Bytes(bytes) => to.leaf(Kind::Bytes, bytes),
        Tree::List(items) => {
            to.begin(Kind::List);
            items.iter().for_each(|item| encode(to, item));
            to.end();
        }
        Tree::Set(items) => {
            to.begin(Kind::Set);
            for item in items {
                to.item();
                encode(to, item);
            }
            to.end();
        }
        Tree::Map(pairs) => {
            to.begin(Kind::Map);
            for (key, value) in pairs {
                to.item();
                encode(to, key);
                encode(to, value);
            }
            to.end();
        }
    }
}

fn digest(tree: &Tree) -> ContentDigest {
    let mut encoder = Encoder::new();
    encode(&mut encoder, tree);
    encoder.finish()
}

fn sent_digest(tree: &Tree) -> u64 {
    let mut encoder = Encoder::of_sent();
    encode(&mut encoder, tree);
    encoder.finish_sent()
}

/// What a tree is, in one text: the plain way to say what the encoding says in few bytes.
fn told(tree: &Tree) -> String {
    let sorted = |mut items: Vec<String>| {
        items.sort_unstable();
        items.join(",")
    };
    match tree {
        Tree::Float(number) => format!("Float({:?})", number + 0.0),
        Tree::List(items) => format!("List({})", items.iter().map(told).collect::<Vec<_>>().join(",")),
        Tree::Set(items) => format!("Set({})", sorted(items.iter().map(told).collect())),
        Tree::Map(pairs) => {
            format!(
                "Map({})",
                sorted(pairs.iter().map(|(key, value)| format!("{}:{}", told(key), told(value))).collect())
            )
        }
        leaf => format!("{leaf:?}"),
    }
}

/// The same content, the other way round where the order does not count.
fn turned(tree: &Tree) -> Tree {
    match tree {
        Tree::List(items) => Tree::List(items.iter().map(turned).collect()),
        Tree::Set(items) => Tree::Set(items.iter().rev().map(turned).collect()),
        Tree::Map(pairs) => Tree::Map(pairs.iter().rev().map(|(key, value)| (turned(key), turned(value))).collect()),
        leaf => leaf.clone(),
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaves = prop_oneof![
        (-3_i64..3).prop_map(Tree::Int),
        any::<i64>().prop_map(Tree::Int),
        prop_oneof![Just(0.0), Just(-0.0), -1e9..1e9].prop_map(Tree::Float),
        "[ab]{0,3}".prop_map(Tree::Text),
        prop::collection::vec(any::<u8>(), LONGEST_INLINE - 4..LONGEST_INLINE + 2).prop_map(Tree::Bytes),
        prop::collection::vec(0_u8..2, 0..3).prop_map(Tree::Bytes),
    ];
    leaves.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::Set),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Tree::Map),
        ]
    })
}

proptest! {
    #[test]
    fn digests_are_equal_if_and_only_if_the_contents_are(one in trees(), other in trees()) {
        prop_assert_eq!(digest(&one) == digest(&other), told(&one) == told(&other));
    }

    #[test]
    fn the_order_of_what_has_none_does_not_count(tree in trees()) {
        prop_assert_eq!(digest(&tree), digest(&turned(&tree)));
    }

    #[test]
    fn sent_digests_are_equal_if_and_only_if_the_contents_are(one in trees(), other in trees()) {
        prop_assert_eq!(sent_digest(&one) == sent_digest(&other), told(&one) == told(&other));
        prop_assert_eq!(sent_digest(&one), sent_digest(&turned(&one)));
        // An encoder that has begun with something else is as good as a new one.
        let mut encoder = Encoder::of_sent();
        encoder.begin(Kind::Set);
        encoder.item();
        encoder.clear();
        encode(&mut encoder, &one);
        prop_assert_eq!(encoder.finish_sent(), sent_digest(&one));
        encode(&mut encoder, &other);
        prop_assert_eq!(encoder.finish_sent(), sent_digest(&other));
    }

    #[test]
    fn a_part_that_was_encoded_before_can_be_used_again(tree in trees()) {
        let tree = Tree::List(vec![tree, Tree::Bytes(vec![0; LONGEST_INLINE])]);
        let mut encoder = Encoder::new();
        encoder.begin(Kind::Tuple);
        encoder.begin(Kind::List);
        if let Tree::List(items) = &tree {
            items.iter().for_each(|item| encode(&mut encoder, item));
        }
        let part = encoder.end();
        match part {
            Some(part) => encoder.hashed(&part),
            None => encode(&mut encoder, &tree),
        }
        encoder.end();
        let mut whole = Encoder::new();
        whole.begin(Kind::Tuple);
        encode(&mut whole, &tree);
        encode(&mut whole, &tree);
        whole.end();
        prop_assert_eq!(encoder.finish(), whole.finish());
    }

    #[test]
    fn a_number_has_one_form_however_long_it_was_given(number in any::<i64>(), more in 0_usize..20) {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend(std::iter::repeat_n(if number < 0 { 0xff } else { 0 }, more));
        let (mut short, mut long) = (Encoder::new(), Encoder::new());
        short.int(number);
        long.large_int(&bytes);
        prop_assert_eq!(short.finish(), long.finish());
    }
}

#[test]
fn the_digest_of_an_input_tells_its_version() {
    let input = digest(&Tree::Int(1)).of_input();
    assert_eq!(version_of_input(&input), VERSION);
    assert_eq!(version_of_input(&Default::default()), 0);
}

#[test]
fn the_same_event_to_another_step_is_another_one_and_the_digest_of_it_stays_as_it_is() {
    assert_ne!(addressed(7, "a"), addressed(7, "b"));
    assert_ne!(addressed(7, "a"), addressed(8, "a"));
    assert_eq!(addressed(7, "a"), 11_445_204_161_929_584_788, "journals have it");
}
