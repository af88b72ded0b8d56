//! Looking at a snapshot that nobody vouches for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use treadle::snapshot;
use treadle_fuzz::unsigned;

fuzz_target!(|data: &[u8]| {
    let _ = snapshot::read_unverified(data.to_vec().into());
    let Some(bytes) = unsigned(data) else { return };
    if let Ok(inspection) = snapshot::read_unverified(bytes) {
        assert_eq!(inspection.is_intact, Some(true));
    }
});
