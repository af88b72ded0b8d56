//! Signatures: an opaque value is taken only as it was, where it was, from whoever knows the secret.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use treadle::journal::record::{decode, encode};
use treadle::{
    Body, EncodedEvent, EncodedImage, Error, FormatError, Record, RunId, Secrets, Tag, Value, snapshot as format,
};

use super::{arbitrary, no_secrets, refusal, sealed, secrets};

const SECRET: &[u8] = b"the secret that signs";

/// The trailer of a snapshot and the signature of a value, as the page on formats describes them.
pub fn mac(purpose: &str, message: &[u8]) -> [u8; 32] {
    let hmac = |key: &[u8], message: &[u8]| -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().into()
    };
    hmac(&hmac(SECRET, purpose.as_bytes()), message)
}

/// The same bytes with a trailer that matches.
pub fn with_trailer(mut bytes: Vec<u8>) -> Bytes {
    let end = bytes.len() - 32;
    let trailer = mac("treadle snapshots", &bytes[..end]);
    bytes[end..].copy_from_slice(&trailer);
    bytes.into()
}

const STANDING: format::Standing = format::Standing { seq: 12, epoch: 3 };

fn run(number: u8) -> RunId {
    RunId::new(1, [number; 10])
}

fn image(run: RunId) -> EncodedImage {
    let mut image = EncodedImage::new(run, "crawl", vec!["fetch".into()], 5, None);
    image.state.set("profile", Value::opaque("UserProfile", &b"alice is the body"[..]));
    image
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn an_opaque_value_without_a_secret_is_refused_with_a_hint() {
    let refused = format::seal(&image(run(1)), &no_secrets()).unwrap_err();
    let needed = FormatError::SecretNeeded { place: "state/profile".into(), class: "UserProfile".into() };
    assert_eq!(refused, needed.into());
    let text = refused.to_string();
    assert!(text.contains("UserProfile") && text.contains("`secret=` or TREADLE_SECRET"), "{text}");
    let record = Record::Set { key: "profile".into(), value: Value::opaque("UserProfile", &b"alice"[..]) };
    let needed = FormatError::SecretNeeded { place: "record/7/state/profile".into(), class: "UserProfile".into() };
    assert_eq!(encode(run(1), 7, &record, &no_secrets()), Err(needed.into()));
}

#[test]
fn an_unsigned_snapshot_is_not_taken_where_there_is_a_secret() {
    let mut plain = image(run(1));
    plain.state.delete("profile");
    assert_eq!(refusal(sealed(&plain, &no_secrets()), &secrets()), FormatError::Unsigned);
}

#[test]
fn a_checkpoint_is_signed_only_if_it_holds_an_opaque_value() {
    let opaque = image(run(1));
    let signed = Bytes::from(format::seal_checkpoint(&opaque, STANDING, &secrets()).unwrap());
    assert_eq!(format::open_checkpoint(signed.clone(), STANDING, &secrets()), Ok(opaque));
    let changed = Bytes::from(replaced(&signed, b"alice", b"malic"));
    assert_eq!(format::open_checkpoint(changed, STANDING, &secrets()), Err(FormatError::Changed.into()));
    assert!(format::open_checkpoint(signed, STANDING, &no_secrets()).is_err());

    let mut plain = image(run(1));
    plain.state.set("profile", Value::new(Tag::Json, &b"\"alice\""[..]));
    let unsigned = Bytes::from(format::seal_checkpoint(&plain, STANDING, &secrets()).unwrap());
    assert_eq!(unsigned, format::seal_checkpoint(&plain, STANDING, &no_secrets()).unwrap());
    assert_eq!(format::open_checkpoint(unsigned, STANDING, &secrets()), Ok(plain));
}

#[test]
fn a_checkpoint_with_an_opaque_value_is_not_taken_unsigned() {
    // Its signature, key and flag are taken away, and a checksum of the whole is put in their place.
    let signed = format::seal_checkpoint(&image(run(1)), STANDING, &secrets()).unwrap();
    let mut bytes = signed[..signed.len() - 32].to_vec();
    bytes[11] &= !1;
    bytes[12..20].fill(0);
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes();
    bytes.extend(checksum);
    assert!(format::read_unverified(bytes.clone().into()).is_ok());
    assert!(format::open_checkpoint(bytes.into(), STANDING, &secrets()).is_err());
}

#[test]
fn a_signed_snapshot_is_not_taken_without_a_secret() {
    let key = secrets().signs_with().unwrap();
    assert_eq!(refusal(sealed(&image(run(1)), &secrets()), &no_secrets()), FormatError::SignedWithoutSecret(key));
}

#[test]
fn another_secret_is_told_apart_from_a_changed_snapshot() {
    let other = Secrets::new([b"some other secret of somebody"]).unwrap();
    let bytes = sealed(&image(run(1)), &secrets());
    assert_eq!(refusal(bytes.clone(), &other), FormatError::UnknownSecret(secrets().signs_with().unwrap()));
    let changed = replaced(&bytes, b"alice", b"malic");
    assert_eq!(refusal(changed, &secrets()), FormatError::Changed);
}

#[test]
fn a_secret_can_be_replaced_by_another() {
    let old = Secrets::new([SECRET]).unwrap();
    let both = Secrets::new([&b"a new secret that signs"[..], SECRET]).unwrap();
    let new = Secrets::new([&b"a new secret that signs"[..]]).unwrap();
    let bytes = sealed(&image(run(1)), &old);
    let opened = format::open(bytes, &both).unwrap();
    let bytes = sealed(&opened, &both);
    assert_eq!(format::open(bytes.clone(), &new), Ok(opened));
    assert!(matches!(refusal(bytes, &old), FormatError::UnknownSecret(_)));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() {
    for secret in ["", "hunter2", "fifteen bytes.."] {
        let refused = Secrets::new([secret]).unwrap_err();
        assert_eq!(refused, FormatError::ShortSecret { length: secret.len() }.into());
    }
    assert!(Secrets::new(["the secret that signs", ""]).is_err());
    assert!(Secrets::new(["sixteen bytes..."]).is_ok());
}

#[test]
fn a_secret_is_not_shown() {
    let shown = format!("{:?}", secrets());
    assert_eq!(shown, format!("Secrets([{:?}, {:?}])", secrets().signs_with().unwrap(), older_key()));
}

fn older_key() -> treadle::KeyId {
    Secrets::new(["an older secret of the same"]).unwrap().signs_with().unwrap()
}

#[test]
fn keys_and_signatures_are_as_documented() {
    let id = Sha256::new().chain_update("treadle key id").chain_update(SECRET).finalize();
    let key = secrets().signs_with().unwrap();
    assert_eq!(&id[..8], key.as_bytes());
    let bytes = sealed(&image(run(1)), &secrets());
    assert_eq!(with_trailer(bytes.to_vec()), bytes);
    let mut message = [&[0, 2][..], key.as_bytes(), run(1).as_bytes()].concat();
    for part in ["snapshot/state", "", "profile", "UserProfile", "alice is the body"] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    let signature = mac("treadle values", &message);
    assert!(bytes.windows(32).any(|window| window == signature));
}

/// A snapshot is signed as a whole as well; here somebody has signed it who should not have.
#[test]
fn a_value_is_taken_only_at_its_place_in_its_run_and_as_its_class() {
    let bytes = sealed(&image(run(1)), &secrets());
    let refusal = |from: &[u8], to: &[u8]| refusal(with_trailer(replaced(&bytes, from, to)), &secrets());
    let changed = |place: &str| FormatError::ValueChanged { place: place.to_owned() };
    assert_eq!(refusal(b"profile", b"profyle"), changed("state/profyle"));
    assert_eq!(refusal(b"UserProfile", b"EvilProfile"), changed("state/profile"));
    assert_eq!(refusal(b"alice", b"malic"), changed("state/profile"));
    assert_eq!(refusal(run(1).as_bytes(), run(2).as_bytes()), changed("state/profile"));
}

fn page(field: &str) -> EncodedEvent {
    let fields = vec![(field.into(), Value::opaque("URL", &b"the url"[..]))];
    EncodedEvent { class: "Page".into(), body: Body::Fields(fields) }
}

#[test]
fn a_value_is_not_taken_from_one_event_for_another() {
    let mut image = image(run(1));
    let whole = EncodedEvent { class: "Page".into(), body: Body::Whole(Value::opaque("Page", &b"the page"[..])) };
    image.kept.insert(1 << 62, page("url"));
    image.kept.insert((1 << 62) + 1, whole);
    let bytes = sealed(&image, &secrets());
    let refusal = |from: &[u8], to: &[u8]| refusal(with_trailer(replaced(&bytes, from, to)), &secrets());
    let changed = |place: String| FormatError::ValueChanged { place };
    let kept = 1_u64 << 62;
    assert_eq!(refusal(b"\xa3url", b"\xa3uri"), changed(format!("kept/{kept}/uri")));
    assert_eq!(refusal(b"Page", b"Evil"), changed(format!("kept/{kept}/url")));
    let (from, to) = ([&b"\xcf"[..], &kept.to_be_bytes()], [&b"\xcf"[..], &(kept - 1).to_be_bytes()]);
    assert_eq!(refusal(&from.concat(), &to.concat()), changed(format!("kept/{}/url", kept - 1)));
}

/// The same bytes with another checksum, that matches.
pub fn with_record_checksum(run: RunId, seq: u64, mut bytes: Vec<u8>) -> Bytes {
    let end = bytes.len() - 8;
    let halves = u128::from_be_bytes(*run.as_bytes());
    let seed = seq ^ (halves >> 64) as u64 ^ halves as u64;
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[..end], seed);
    bytes[end..].copy_from_slice(&checksum.to_be_bytes());
    bytes.into()
}

/// A whole event as the first version of the formats put it into streams, inboxes and outcomes: a record without a
/// number of its own.
pub fn published_in_the_first_version(run: RunId, owner: &str, class: &str, body: &[u8]) -> Bytes {
    let key = secrets().signs_with().unwrap();
    let mut message = [&[0, 1][..], key.as_bytes(), run.as_bytes()].concat();
    for part in [Some("record/0/published"), Some(owner), None, Some(class)] {
        message.extend(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        message.extend(part.unwrap_or_default().as_bytes());
    }
    message.extend((body.len() as u64).to_be_bytes());
    message.extend(body);
    let text = |text: &str| [&[0xa0 | text.len() as u8][..], text.as_bytes()].concat();
    let binary = |bytes: &[u8]| [&[0xc4, bytes.len() as u8][..], bytes].concat();
    let signature = binary(&mac("treadle values", &message));
    let value = [b"\x93".to_vec(), text(class), signature, binary(body)].concat();
    let event = [b"\x92\x15\x92".to_vec(), text(owner), value].concat();
    let bytes = [&[1, 1][..], key.as_bytes(), &event, &[0; 8]].concat();
    with_record_checksum(run, 0, bytes)
}

#[test]
fn a_value_of_a_record_is_not_taken_elsewhere_even_if_the_checksum_matches() {
    let set = Record::Set { key: "key a".into(), value: Value::opaque("URL", &b"the url"[..]) };
    let queued = Record::Queued { seq: 1, step: treadle::StepId(0), event: page("url") };
    let bytes = |record| encode(run(1), 7, record, &secrets()).unwrap().to_vec();
    let refused = |run, seq, bytes| match decode(run, seq, with_record_checksum(run, seq, bytes), &secrets()) {
        Err(Error::Format(FormatError::ValueChanged { place })) => place,
        other => panic!("{other:?}"),
    };
    assert_eq!(decode(run(1), 7, with_record_checksum(run(1), 7, bytes(&set)), &secrets()), Ok(set.clone()));
    assert_eq!(refused(run(2), 7, bytes(&set)), "record/7/state/key a");
    assert_eq!(refused(run(1), 8, bytes(&set)), "record/8/state/key a");
    assert_eq!(refused(run(1), 7, replaced(&bytes(&set), b"key a", b"key b")), "record/7/state/key b");
    assert_eq!(refused(run(1), 7, replaced(&bytes(&queued), b"\xa4Page", b"\xa4Evil")), "record/7/queued/url");
    // An event that was queued is told to have been collected.
    let collected = replaced(&bytes(&queued), b"\x94\x03\x01\x00", b"\x94\x10\x01\x00");
    let collected = replaced(&collected, b"\x94\x10\x01\x00", b"\x94\x0c\x01\x00");
    let error = decode(run(1), 7, with_record_checksum(run(1), 7, collected), &secrets()).unwrap_err();
    assert!(matches!(error, Error::Format(FormatError::Malformed { .. })), "{error}");
    let kept = Record::Kept { number: 1, event: page("url") };
    let received = replaced(&bytes(&kept), b"\x93\x11\x01", b"\x93\x0c\x01");
    assert_eq!(refused(run(1), 7, received), "record/7/received/url");
}

#[test]
fn a_signed_record_needs_its_secret() {
    let record = Record::Set { key: "k".into(), value: Value::opaque("URL", &b"the url"[..]) };
    let bytes = encode(run(1), 7, &record, &secrets()).unwrap();
    let key = secrets().signs_with().unwrap();
    let other = Secrets::new(["some other secret of somebody"]).unwrap();
    let refused = |secrets: &Secrets| decode(run(1), 7, bytes.clone(), secrets);
    assert_eq!(refused(&no_secrets()), Err(FormatError::SignedWithoutSecret(key).into()));
    assert_eq!(refused(&other), Err(FormatError::UnknownSecret(key).into()));
    let unmarked = [&[2, 0], &bytes[10..]].concat();
    let refused = decode(run(1), 7, with_record_checksum(run(1), 7, unmarked), &secrets());
    let needed = FormatError::SecretNeeded { place: "record/7/state/k".into(), class: "URL".into() };
    assert_eq!(refused, Err(needed.into()));
}

proptest! {
    #[test]
    fn an_opaque_value_never_gets_through_without_a_secret(image in arbitrary::image(true)) {
        let events = image.pending.values().map(|pending| &pending.event);
        let mut values = events.chain(image.kept.values()).flat_map(EncodedEvent::values);
        let is_opaque = |value: &Value| value.tag == Tag::Opaque;
        prop_assume!(values.any(is_opaque) || image.state.iter().any(|(_, value)| is_opaque(value)));
        let sealed = format::seal(&image, &no_secrets());
        let is_refused = matches!(sealed, Err(Error::Format(FormatError::SecretNeeded { .. })));
        prop_assert!(is_refused, "{:?}", sealed);
    }
}
