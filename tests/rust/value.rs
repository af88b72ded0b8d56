//! The JSON text writer, read back by serde_json.

use proptest::prelude::*;
use serde_json::Value as Json;
use treadle::{JsonWriter, Stored, Tag, Value};

#[derive(Clone, Debug)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Tree>),
    Dict(Vec<(String, Tree)>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        // Much that needs an escape, or looks like the writer's own punctuation.
        "[\\x00-\\x22,:\\[\\]{}\\\\/a\\x7f\u{80}\u{2028}\u{feff}\u{ffff}\u{10ffff}]{0,40}",
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<i32>().prop_map(f64::from)]
        .prop_filter("finite", |float| float.is_finite())
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        finite().prop_map(Tree::Float),
        text().prop_map(Tree::Str),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::vec((text(), inner), 0..6).prop_map(|mut pairs| {
                let mut seen = std::collections::HashSet::new();
                pairs.retain(|pair| seen.insert(pair.0.clone()));
                Tree::Dict(pairs)
            }),
        ]
    })
}

fn write(json: &mut JsonWriter, tree: &Tree) {
    match tree {
        Tree::Null => json.null(),
        Tree::Bool(value) => json.bool(*value),
        Tree::Int(value) => json.int(*value),
        Tree::Float(value) => json.float(*value),
        Tree::Str(value) => json.str(value),
        Tree::List(items) => {
            json.begin_list();
            items.iter().for_each(|item| write(json, item));
            json.end_list();
        }
        Tree::Dict(pairs) => {
            json.begin_dict();
            for (key, value) in pairs {
                json.key(key);
                write(json, value);
            }
            json.end_dict();
        }
    }
}

/// The same value: type, key order and every bit of a float.
fn is_same(tree: &Tree, json: &Json) -> bool {
    match (tree, json) {
        (Tree::Null, Json::Null) => true,
        (Tree::Bool(value), Json::Bool(found)) => value == found,
        (Tree::Int(value), Json::Number(found)) => found.is_i64() && found.as_i64() == Some(*value),
        (Tree::Float(value), Json::Number(found)) => {
            found.is_f64() && found.as_f64().map(f64::to_bits) == Some(value.to_bits())
        }
        (Tree::Str(value), Json::String(found)) => value == found,
        (Tree::List(items), Json::Array(found)) => {
            items.len() == found.len() && items.iter().zip(found).all(|(item, found)| is_same(item, found))
        }
        (Tree::Dict(pairs), Json::Object(found)) => {
            let same = |((key, value), (name, found)): (&(String, Tree), _)| key == name && is_same(value, found);
            pairs.len() == found.len() && pairs.iter().zip(found).all(same)
        }
        _ => false,
    }
}

fn written(write: impl FnOnce(&mut JsonWriter)) -> String {
    let mut json = JsonWriter::default();
    write(&mut json);
    json.as_str().to_owned()
}

fn assert_reads_back(text: &str) {
    let quoted = written(|json| json.str(text));
    assert_eq!(serde_json::from_str::<String>(&quoted).as_deref().ok(), Some(text), "{quoted}");
}

proptest! {
    #[test]
    fn every_text_is_json_that_reads_back_as_the_same_value(tree in tree()) {
        let text = written(|json| write(json, &tree));
        let read = serde_json::from_str(&text);
        prop_assert!(read.as_ref().is_ok_and(|read| is_same(&tree, read)), "{text}");
    }

    #[test]
    fn a_float_reads_back_with_every_bit_and_as_a_float(value in finite()) {
        let text = written(|json| json.float(value));
        prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        prop_assert!(text.contains(['.', 'e']), "{}", text);
        prop_assert!(serde_json::from_str::<Json>(&text).is_ok_and(|read| read.is_f64()), "{}", text);
    }

    #[test]
    fn a_float_has_no_digit_too_many(value in finite()) {
        let digits = |text: &str| {
            let mantissa = text.split('e').next().unwrap().replace(['-', '.'], "");
            mantissa.trim_matches('0').to_owned()
        };
        // The standard library writes the shortest digits too; of two such texts that are equally near, either is.
        let (ours, shortest) = (digits(&written(|json| json.float(value))), digits(&format!("{value:e}")));
        prop_assert!(ours.len() <= shortest.len(), "{} {}", ours, shortest);
    }

    #[test]
    fn an_int_is_its_decimal_digits(value: i64) {
        prop_assert_eq!(written(|json| json.int(value)), value.to_string());
    }

    #[test]
    fn a_string_reads_back_wherever_its_escapes_are(text in text()) {
        assert_reads_back(&text);
    }

    #[test]
    fn a_writer_that_was_reset_forgets_its_text(
        first in tree(), second in tree(), keep in prop_oneof![0..1000_usize, Just(usize::MAX)],
    ) {
        let mut json = JsonWriter::default();
        write(&mut json, &first);
        json.reset(keep);
        prop_assert!(json.is_empty() && json.as_str().is_empty());
        write(&mut json, &second);
        let expected = written(|json| write(json, &second));
        prop_assert_eq!(json.as_str(), expected);
    }

    #[test]
    fn a_text_can_be_read_at_any_time_and_asking_for_room_changes_nothing(items in prop::collection::vec(text(), 1..6)) {
        let mut json = JsonWriter::new();
        json.begin_list();
        let mut expected = "[".to_owned();
        for (at, item) in items.iter().enumerate() {
            prop_assert!(json.has_room_for(item));
            prop_assert_eq!(json.as_str(), &expected);
            json.str(item);
            expected += if at > 0 { "," } else { "" };
            expected += &written(|json| json.str(item));
            prop_assert_eq!(json.as_str(), &expected);
            prop_assert_eq!(json.len(), expected.len() + 1, "with the comma behind the last value");
        }
    }
}

#[test]
fn nothing_written_is_the_empty_text() {
    const NEW: JsonWriter = JsonWriter::new();
    for json in [NEW, JsonWriter::default()] {
        assert!(json.is_empty() && json.as_str().is_empty());
        assert_eq!(json.len(), 0);
    }
}

#[test]
fn floats_at_the_edges_keep_their_bits() {
    let edges = [
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        1e-320,
        f64::MIN_POSITIVE,
        f64::MIN_POSITIVE.next_down(),
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        0.1 + 0.2,
        1e15,
        1e16,
        1e17,
        1e21,
        1e22,
        1e23,
        1e-5,
        1e-7,
        9_007_199_254_740_993.0,
        123_456_789_012_345_680.0,
    ];
    let powers = (-323..=308).map(|exponent| format!("1e{exponent}").parse().unwrap());
    for value in edges.into_iter().chain(powers) {
        let text = written(|json| json.float(value));
        assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
        let read: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(read.as_f64().map(f64::to_bits), Some(value.to_bits()), "{text}");
        assert!(read.is_f64(), "{text}");
    }
}

#[test]
fn ints_at_the_edges_are_exact() {
    for value in [0, -1, 1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1] {
        assert_eq!(serde_json::from_str::<i64>(&written(|json| json.int(value))).ok(), Some(value));
    }
}

#[test]
fn ints_are_exact_whatever_their_digits() {
    let assert_exact = |value: i64| assert_eq!(written(|json| json.int(value)), value.to_string());
    // Four digits at a time, in the lower and in the upper half of eight.
    for four in 0..10_000 {
        assert_exact(four);
        assert_exact(-four);
        assert_exact(four * 10_000);
        assert_exact(four * 10_000 + 9_999);
    }
    for power in (0..19).map(|exponent| 10_i64.pow(exponent)) {
        for value in [power - 1, power, power + 1] {
            assert_exact(value);
            assert_exact(-value);
        }
    }
}

#[test]
fn every_character_of_unicode_reads_back() {
    let all: Vec<char> = (0..=u32::from(char::MAX)).filter_map(char::from_u32).collect();
    for part in all.chunks(1 << 16) {
        assert_reads_back(&part.iter().collect::<String>());
    }
    for char in (0..0x300).filter_map(char::from_u32) {
        assert_reads_back(&char.to_string());
    }
}

#[test]
fn an_escape_is_found_at_every_place_of_a_string_of_every_length() {
    for len in 0..70 {
        for at in 0..len {
            for char in ['"', '\\', '\n', '\0', '\x1f'] {
                let mut text = "a".repeat(len);
                text.replace_range(at..=at, &char.to_string());
                assert_reads_back(&text);
            }
        }
    }
}

#[test]
fn escapes_are_the_short_ones_or_four_hex_digits() {
    let text = written(|json| json.str("\"\\/\n\r\t\x08\x0c\0\x1f\x7fé"));
    assert_eq!(text, "\"\\\"\\\\/\\n\\r\\t\\u0008\\u000c\\u0000\\u001f\x7fé\"");
}

#[test]
fn empty_containers_stand_where_any_value_can() {
    let text = written(|json| {
        json.begin_list();
        for _ in 0..2 {
            json.begin_list();
            json.end_list();
            json.begin_dict();
            json.end_dict();
        }
        json.begin_dict();
        json.key("");
        json.begin_list();
        json.end_list();
        json.key(",");
        json.begin_dict();
        json.end_dict();
        json.end_dict();
        json.end_list();
    });
    assert_eq!(text, r#"[[],{},[],{},{"":[],",":{}}]"#);
    assert_eq!(written(|json| (json.begin_list(), json.end_list()).0), "[]");
    assert_eq!(written(|json| (json.begin_dict(), json.end_dict()).0), "{}");
}

#[test]
fn strings_that_end_like_the_writers_punctuation_stay_whole() {
    for text in [",", "],", "},", "\",", "[", "{", ":", "a,"] {
        let list = written(|json| {
            json.begin_list();
            json.str(text);
            json.end_list();
        });
        assert_eq!(list, format!("[{}]", serde_json::to_string(text).unwrap()));
    }
}

#[test]
fn nesting_may_be_deeper_than_any_value_that_is_kept_as_json() {
    for depth in [treadle::MAX_DEPTH, 100_000] {
        let text = written(|json| {
            (0..depth).for_each(|_| json.begin_list());
            (0..depth).for_each(|_| json.end_list());
        });
        assert_eq!(text, "[".repeat(depth) + &"]".repeat(depth));
    }
}

#[test]
fn a_value_knows_its_tag_whatever_its_bytes_say() {
    for tag in [Tag::Binary, Tag::MutableBinary, Tag::Json, Tag::Opaque] {
        let value = Value::new(tag, b"{\"tag\":\"opaque\"}".as_slice());
        assert_eq!(value.tag(), tag);
        assert_eq!(value.clone(), value);
    }
}
