//! Decoding a record: whatever is taken is encoded to the same bytes again, or to the same record in the present
//! version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use treadle::journal::record::{decode, encode};
use treadle_fuzz::{checked, run, secrets};

fuzz_target!(|data: &[u8]| {
    let _ = decode(run(), 1, data.to_vec().into(), &secrets());
    // The seeds are numbered from 1, and are as many.
    let seq = 1 + u64::from(data.last().copied().unwrap_or_default() % 28);
    let data = &data[..data.len().saturating_sub(9)];
    let bytes = checked(run(), seq, data);
    if let Ok(record) = decode(run(), seq, bytes.clone(), &secrets()) {
        let again = encode(run(), seq, &record, &secrets()).expect("what was read can be written");
        if bytes[0] == again[0] {
            assert_eq!(again, bytes);
        } else {
            assert_eq!(decode(run(), seq, again.into(), &secrets()), Ok(record));
        }
    }
});
