//! Opening a file of one run that came from anywhere.

#![no_main]

use libfuzzer_sys::fuzz_target;
use treadle::journal::Archive;
use treadle_fuzz::archived;

fuzz_target!(|data: &[u8]| {
    let _ = Archive::decode(data);
    let bytes = archived(data);
    if let Ok(archive) = Archive::decode(&bytes) {
        assert_eq!(archive.encode().unwrap(), bytes, "there is one form of each archive");
    }
});
