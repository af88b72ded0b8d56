//! Run ids are UUIDs of version 7.

use proptest::prelude::*;
use treadle::{Error, RunId};

const LAST_MS: u64 = (1 << 48) - 1;

proptest! {
    #[test]
    fn the_text_reads_back_as_the_same_id_in_either_case(ms in 0..=LAST_MS, random: [u8; 10]) {
        let id = RunId::new(ms, random);
        let text = id.to_string();
        prop_assert!(text.bytes().eq(id.text()));
        prop_assert_eq!(text.parse(), Ok(id));
        prop_assert_eq!(text.to_uppercase().parse(), Ok(id));
        prop_assert_eq!(format!("{id:?}"), format!("RunId({text})"));
    }

    #[test]
    fn the_text_is_the_bytes_in_hex_with_four_dashes(ms in 0..=LAST_MS, random: [u8; 10]) {
        let id = RunId::new(ms, random);
        let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected =
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        prop_assert_eq!(id.to_string(), expected);
    }

    #[test]
    fn the_version_is_7_and_the_variant_is_the_standard_one(ms: u64, random: [u8; 10]) {
        let id = RunId::new(ms, random);
        prop_assert_eq!(id.as_bytes()[6] >> 4, 7);
        prop_assert_eq!(id.as_bytes()[8] >> 6, 0b10);
        let text = id.to_string();
        prop_assert_eq!(&text[14..15], "7");
        prop_assert!("89ab".contains(&text[19..20]));
    }

    #[test]
    fn the_time_and_the_other_74_bits_are_kept(ms in 0..=LAST_MS, random: [u8; 10]) {
        let id = RunId::new(ms, random);
        let bytes = *id.as_bytes();
        let mut time = [0; 8];
        time[2..].copy_from_slice(&bytes[..6]);
        prop_assert_eq!(u64::from_be_bytes(time), ms);
        let mut kept = random;
        kept[0] = bytes[6] & 0x0f | random[0] & 0xf0;
        kept[2] = bytes[8] & 0x3f | random[2] & 0xc0;
        prop_assert_eq!(kept, random);
        prop_assert_eq!(&bytes[9..], &random[3..]);
        prop_assert_eq!(bytes[7], random[1]);
    }

    #[test]
    fn ids_and_their_texts_sort_by_time(
        one in 0..=LAST_MS, other in 0..=LAST_MS, random: [u8; 10], more: [u8; 10],
    ) {
        prop_assume!(one != other);
        let (first, second) = (RunId::new(one.min(other), random), RunId::new(one.max(other), more));
        prop_assert!(first < second);
        prop_assert!(first.to_string() < second.to_string());
    }

    #[test]
    fn any_other_text_is_an_error_that_shows_it(text in ".*") {
        let is_valid = text.len() == 36
            && text.char_indices().all(|(at, char)| match at {
                8 | 13 | 18 | 23 => char == '-',
                _ => char.is_ascii_hexdigit(),
            });
        prop_assume!(!is_valid);
        let shown: String = text.chars().take(64).collect();
        prop_assert_eq!(text.parse::<RunId>(), Err(Error::InvalidRunId(shown)));
    }

    #[test]
    fn an_id_with_one_character_changed_to_another_kind_is_an_error(
        ms in 0..=LAST_MS, random: [u8; 10], at in 0..36_usize, other in any::<char>(),
    ) {
        let text = RunId::new(ms, random).to_string();
        let is_dash = &text[at..=at] == "-";
        prop_assume!(if is_dash { other != '-' } else { !other.is_ascii_hexdigit() });
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        prop_assert!(changed.parse::<RunId>().is_err());
    }
}

#[test]
fn texts_that_are_nearly_ids_are_errors() {
    let id = RunId::new(1_700_000_000_000, [0xab; 10]).to_string();
    let texts = [
        String::new(),
        "-".repeat(36),
        id.replace('-', ""),
        id.replace('-', "_"),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
        format!(" {id}"),
        format!("{id}\n"),
        id[..35].to_owned(),
        id.replacen(|char: char| char.is_ascii_digit(), "+", 1),
        "é".repeat(18),
        "0".repeat(36),
        id.clone(),
    ];
    let (valid, invalid) = texts.split_last().unwrap();
    assert!(valid.parse::<RunId>().is_ok());
    for text in invalid {
        assert_eq!(text.parse::<RunId>(), Err(Error::InvalidRunId(text.chars().take(64).collect())), "{text:?}");
    }
}

#[test]
fn the_error_of_a_huge_text_is_short() {
    let error = "x".repeat(1 << 20).parse::<RunId>().unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}
