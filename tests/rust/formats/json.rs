//! A value that is marked as JSON holds JSON, or is not taken.

use proptest::prelude::*;
use treadle::{EncodedImage, Error, FormatError, RunId, Tag, Value, snapshot as format};

use super::{no_secrets, sealed};

/// Why a text is not taken, if it is not.
fn fault(text: impl AsRef<[u8]>) -> Option<&'static str> {
    let mut image = EncodedImage::new(RunId::new(1, [1; 10]), "w", Vec::new(), 0, None);
    image.state.set("key", Value::new(Tag::Json, text.as_ref().to_vec()));
    match format::open(sealed(&image, &no_secrets()), &no_secrets()) {
        Ok(opened) => {
            assert_eq!(opened, image);
            None
        }
        Err(Error::Format(FormatError::NotJson { place, why })) => {
            assert_eq!(place, "state/key");
            Some(why)
        }
        Err(error) => panic!("{error}"),
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", r#"{"a":["#.repeat(depth / 2), "]}".repeat(depth / 2))
}

#[test]
fn what_json_allows_is_taken() {
    let texts = [
        "null",
        " true ",
        "false",
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+5",
        "0.1e-7",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "\r\n\t [1 , 2] ",
        r#"{"a" : {"b":[{}]} , "c":""}"#,
        r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
        "\"ü\u{7f}\"",
        "9223372036854775807",
        "-9223372036854775808",
        "1.7976931348623157e308",
        "123456789012345678901234567890.5",
        "1e-999",
        "[[1],[2,[3]],{\"x\":[]}]",
        "\"exactly sixteen.\"",
    ];
    for text in texts {
        assert_eq!(fault(text), None, "{text}");
    }
    assert_eq!(fault(nested(128)), None);
}

#[test]
fn what_json_does_not_allow_is_refused() {
    let texts = [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "-01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "'a'",
        "\"",
        "\"a",
        "\"a\nb\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[1 2]",
        "[1}",
        "{",
        "{]",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{\"a\":1",
        "{\"a\":1]",
        "1 2",
        "[] []",
        "\u{feff}1",
        "\u{a0}1",
        "// 1",
        "9223372036854775808",
        "-9223372036854775809",
        "1e999",
        "-1e999",
    ];
    for text in texts {
        assert!(fault(text).is_some(), "{text}");
    }
    assert_eq!(fault(b"\"\xff\""), Some("it is not UTF-8"));
    assert_eq!(fault(b"\"\xed\xa0\x80\""), Some("it is not UTF-8"));
    assert_eq!(fault(nested(130)), Some("it is nested too deep"));
    assert_eq!(fault("[".repeat(1_000_000)), Some("it is nested too deep"));
    assert_eq!(fault("1".repeat(1_000_000)), Some("a number is too large"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Two integers apart: those of more than 64 bits, which others read as floats.
    #[test]
    fn it_agrees_with_another_reader(text in r#"[\[\]{}",:0-9eE.+\-\\u truefalsn]{0,24}|"[\\"u0-9a-fD8x\x00-\x1fü]{0,12}""#) {
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let has_long_number = text.bytes().filter(u8::is_ascii_digit).count() >= 18;
        prop_assert!(fault(&text).is_none() == is_json || has_long_number, "{:?}: {:?}", text, fault(&text));
    }

    #[test]
    fn a_changed_text_is_taken_by_both_or_by_none(
        text in super::arbitrary::json(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"[]{},:\"\\ 0-9.eu".to_vec())],
        is_removed in any::<bool>(),
    ) {
        prop_assert_eq!(fault(&text), None);
        let mut text = text.into_bytes();
        let at = at.index(text.len());
        if is_removed { text.remove(at); } else { text[at] = byte; }
        let is_json = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
        let has_long_number = text.chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit()).any(|run| run.len() > 18);
        prop_assert!(fault(&text).is_none() == is_json || has_long_number, "{:?}", String::from_utf8_lossy(&text));
    }
}
