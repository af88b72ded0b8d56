//! Bytes that somebody has made to do harm: whole, with a checksum that matches, and wrong inside.

use std::time::{Duration, Instant};

use rmpv::Value as Pack;
use treadle::{Error, FormatError, snapshot as format};

use super::{no_secrets, unsigned};

const STATE: usize = 10;
const PENDING: usize = 11;
const WAITS: usize = 12;
const GROUPS: usize = 13;
const KEPT: usize = 14;
const HELD: usize = 15;

fn list(items: impl IntoIterator<Item = Pack>) -> Pack {
    Pack::Array(items.into_iter().collect())
}

/// The parts of a body: a run of one step, with nothing in it, where 1000 of everything were before.
fn parts() -> Vec<Pack> {
    let id = Pack::Binary(vec![1; 16]);
    let numbers = [5.into(), Pack::Nil, 0.into(), 1000.into(), 1000.into(), 1000.into(), 0.into()];
    let mut parts = vec![id, "w".into(), list(["step".into()])];
    parts.extend(numbers);
    parts.push(Pack::Map(Vec::new()));
    parts.extend((PENDING..=HELD).map(|_| list([])));
    parts
}

fn packed(pack: &Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, pack).unwrap();
    bytes
}

fn body_with(at: usize, part: Pack) -> Vec<u8> {
    let mut parts = parts();
    parts[at] = part;
    packed(&Pack::Array(parts))
}

/// A body with bytes of one's own in place of one part.
fn body_with_bytes(at: usize, bytes: &[u8]) -> Vec<u8> {
    let parts = parts();
    let parts = parts.iter().enumerate().map(|(index, part)| if index == at { bytes.to_vec() } else { packed(part) });
    std::iter::once(vec![0xdc, 0, 16]).chain(parts).flatten().collect()
}

fn refusal_of(body: &[u8]) -> Error {
    let start = Instant::now();
    let refused = format::open(unsigned(body), &no_secrets()).expect_err("it is malformed");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let inspected = format::read_unverified(unsigned(body)).expect_err("it is malformed");
    assert_eq!(inspected, refused);
    refused
}

fn assert_malformed(at: usize, part: Pack, expected: &str) {
    match refusal_of(&body_with(at, part)) {
        Error::Format(FormatError::Malformed { why, .. }) => assert_eq!(why, expected),
        other => panic!("{other}, not: {expected}"),
    }
}

fn event() -> Pack {
    list(["Page".into(), Pack::Map(Vec::new())])
}

fn delivery(seq: u64, event: Pack, replay: Pack) -> Pack {
    list([seq.into(), 0.into(), 1.into(), Pack::Nil, Pack::Nil, event, replay])
}

/// Classes in a row, each with how often.
fn runs(runs: &[(&str, u64)]) -> Pack {
    list(runs.iter().map(|&(class, count)| list([class.into(), count.into()])))
}

fn group(number: u64, expected: Pack, collected: Pack) -> Pack {
    list([number.into(), 0.into(), Pack::Nil, expected, collected])
}

#[test]
fn the_body_made_here_is_valid_as_long_as_nothing_is_wrong_with_it() {
    let collected = list([list(["Page".into(), list([event()])])]);
    for (at, part) in [
        (PENDING, list([delivery(1, event(), Pack::Nil)])),
        (GROUPS, list([group(1, runs(&[("Page", 2)]), collected)])),
        (KEPT, list([list([(1_u64 << 62).into(), event()])])),
        (HELD, list([list([true.into(), event()])])),
        (WAITS, list([list([1.into(), 1.into(), "Page".into(), Pack::Nil])])),
    ] {
        let mut parts = parts();
        parts[at] = part;
        // A name that has been written has a number.
        let text = packed(&Pack::Array(parts));
        let opened = format::open(unsigned(&renamed(&text)), &no_secrets());
        assert!(opened.is_ok(), "{at}: {opened:?}");
    }
}

/// The second name of a class becomes its number.
fn renamed(body: &[u8]) -> Vec<u8> {
    let name = b"\xa4Page";
    let mut named = Vec::new();
    let mut rest = body;
    let mut is_first = true;
    while let Some(at) = rest.windows(name.len()).position(|window| window == name) {
        named.extend_from_slice(&rest[..at]);
        if std::mem::take(&mut is_first) {
            named.extend_from_slice(name)
        } else {
            named.push(0)
        }
        rest = &rest[at + name.len()..];
    }
    named.extend_from_slice(rest);
    named
}

#[test]
fn a_length_that_is_not_there_takes_no_memory() {
    let lengths: [&[u8]; 8] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\x7f\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdf\x00\x01\x00\x00",
        b"\xdd\x00\x01\x00\x00",
    ];
    for at in 0..16 {
        for length in lengths {
            refusal_of(&body_with_bytes(at, length));
        }
    }
    let padding = vec![0xc0; 4 << 20];
    for at in [STATE, PENDING, WAITS, GROUPS, KEPT, HELD] {
        for marker in [&b"\xdd"[..], b"\xdf"] {
            let length = 4_u32 << 20;
            refusal_of(&body_with_bytes(at, &[marker, &length.to_be_bytes(), &padding].concat()));
        }
    }
}

#[test]
fn what_is_nested_deep_takes_no_stack() {
    for marker in [0x91, 0x93, 0x81] {
        let deep = vec![marker; 1 << 20];
        for at in 0..16 {
            refusal_of(&body_with_bytes(at, &deep));
        }
        let key = [b"\x81\xa1k", &deep[..]].concat();
        refusal_of(&body_with_bytes(STATE, &key));
        let json = [b"\x81\xa1k\xdb\x00\x10\x00\x00", "[".repeat(1 << 20).as_bytes()].concat();
        let refused = refusal_of(&body_with_bytes(STATE, &json));
        assert!(matches!(refused, Error::Format(FormatError::NotJson { .. })), "{refused}");
    }
}

#[test]
fn what_unfolds_to_too_much_is_refused_before_it_does() {
    let too_large = Error::Format(FormatError::TooLarge { what: "what steps collect" });
    for count in [3 << 20, 1 << 40, u64::MAX - 1] {
        let group = group(1, runs(&[("Page", count)]), list([]));
        assert_eq!(refusal_of(&body_with(GROUPS, list([group]))), too_large);
    }
    let many = (1..=1000).map(|number| group(number, runs(&[(&format!("{number}"), 1 << 20)]), list([])));
    assert_eq!(refusal_of(&body_with(GROUPS, list(many))), too_large);
    let first = group(1, runs(&[("Page", 1 << 20)]), list([]));
    let same = (2..=1000).map(|number| group(number, 0.into(), list([])));
    assert_eq!(refusal_of(&body_with(GROUPS, list(std::iter::once(first).chain(same)))), too_large);
    let names: Vec<_> = (0..1000).map(|number| format!("{number}")).collect();
    let classes: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
    let first = group(1, runs(&classes), list([]));
    let same = (2..=1000).map(|number| group(number, 0.into(), list([])));
    assert_eq!(refusal_of(&body_with(GROUPS, list(std::iter::once(first).chain(same)))), too_large);
    let pairs: Vec<_> = (0..100).map(|number| (if number % 2 == 0 { "a" } else { "b" }, u64::MAX / 50)).collect();
    assert_eq!(refusal_of(&body_with(GROUPS, list([group(1, runs(&pairs), list([]))]))), too_large);
}

#[test]
fn what_the_format_does_not_write_is_not_read() {
    let longer = |bytes: &[u8]| match refusal_of(&body_with_bytes(3, bytes)) {
        Error::Format(FormatError::Malformed { why, .. }) => why,
        other => panic!("{other}"),
    };
    for long in [&b"\xcc\x05"[..], b"\xcd\x00\x05", b"\xce\x00\x00\xff\xff", b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff"] {
        assert_eq!(longer(long), "a number is longer than it needs to be");
    }
    for other in [&b"\xff"[..], b"\xd0\x05", b"\xca\x00\x00\x00\x00", b"\xc1", b"\xa1\x35", b"\xc3", b"\xd4\x00\x00"] {
        assert_eq!(longer(other), "a number is missing");
    }
    let unknown = list([delivery(1, list([7.into(), Pack::Map(Vec::new())]), Pack::Nil)]);
    assert_malformed(PENDING, unknown, "a name has no such number");
    let twice = list([delivery(1, event(), Pack::Nil), delivery(2, event(), Pack::Nil)]);
    assert_malformed(PENDING, twice, "a name has two numbers");
    let nothing = list([list([]), list([]), list([]), list([]), list([])]);
    assert_malformed(PENDING, list([delivery(1, event(), nothing)]), "nothing to remember takes no place");
    assert_malformed(6 - 1, 3.into(), "a run has no such status");
    assert_malformed(STATE, Pack::Map(vec![("k".into(), 1.into())]), "a value is missing");
    assert_malformed(STATE, Pack::Map(vec![("k".into(), list([]))]), "a value is missing");
    assert_malformed(0, Pack::Binary(vec![1; 15]), "a binary value has the wrong length");
    let text = b"\xa2\xff\xfe";
    let refused = refusal_of(&body_with_bytes(1, text));
    assert!(matches!(refused, Error::Format(FormatError::Malformed { why: "a text is not UTF-8", .. })), "{refused}");
}

#[test]
fn numbers_that_do_not_ascend_are_refused() {
    let other = || list([0.into(), Pack::Map(Vec::new())]);
    for second in [1, 2] {
        let deliveries = [delivery(2, event(), Pack::Nil), delivery(second, other(), Pack::Nil)];
        assert_malformed(PENDING, list(deliveries), "numbers do not ascend");
    }
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let one = || ("k".into(), Pack::from("1"));
    let refused = refusal_of(&body_with(STATE, Pack::Map(vec![one(), one()])));
    assert_eq!(refused, FormatError::Doubled { place: "state/k".into() }.into());
}

#[test]
fn groups_that_no_run_has_are_refused() {
    let of =
        |class: Pack, count: usize| list([class, list((0..count).map(|_| list(["E".into(), Pack::Map(Vec::new())])))]);
    let one = |expected, collected| list([group(1, expected, collected)]);
    let page = || runs(&[("Page", 1)]);
    assert_malformed(GROUPS, one(page(), list([of(0.into(), 1)])), "a group is complete, but was not given");
    assert_malformed(
        GROUPS,
        one(page(), list([of("Other".into(), 1)])),
        "a group has an event that it does not expect",
    );
    assert_malformed(GROUPS, one(page(), list([of(0.into(), 0)])), "a class without collected events takes no place");
    let both = runs(&[("a", 1), ("b", 2), ("c", 1)]);
    let unordered = list([of(1.into(), 1), list([0.into(), list([])])]);
    assert_malformed(GROUPS, one(both, unordered), "the classes of collected events are not in order");
    let uncounted = "classes in a row are not counted together";
    assert_malformed(GROUPS, one(runs(&[("Page", 0)]), list([])), uncounted);
    let twice = list([list(["Page".into(), 1.into()]), list([0.into(), 1.into()])]);
    assert_malformed(GROUPS, one(twice, list([])), uncounted);
    let again = list([list([0.into(), 1.into()])]);
    let groups = list([group(1, page(), list([])), group(2, again, list([]))]);
    assert_malformed(GROUPS, groups, "a list of classes has two numbers");
}

#[test]
fn what_follows_the_body_or_is_missing_from_it_is_noticed() {
    let body = packed(&Pack::Array(parts()));
    let malformed = |body: &[u8]| match refusal_of(body) {
        Error::Format(FormatError::Malformed { why, .. }) => why,
        other => panic!("{other}"),
    };
    assert_eq!(malformed(&[&body[..], b"\xc0"].concat()), "something follows that does not belong here");
    assert_eq!(malformed(&body[..body.len() - 1]), "the body ends too early");
    assert_eq!(malformed(&[]), "the body ends too early");
}

#[test]
fn an_image_that_no_run_can_have_is_not_opened() {
    assert!(matches!(refusal_of(&body_with(6, u64::MAX.into())), Error::InvalidImage(_)));
    let early = list([list([1.into(), event()])]);
    assert!(matches!(refusal_of(&body_with(KEPT, early)), Error::InvalidImage(_)));
    assert!(matches!(refusal_of(&body_with(2, list(["a".into(), "a".into()]))), Error::InvalidImage(_)));
    let late = list([delivery(1001, event(), Pack::Nil)]);
    assert!(matches!(refusal_of(&body_with(PENDING, late)), Error::InvalidImage(_)));
}
