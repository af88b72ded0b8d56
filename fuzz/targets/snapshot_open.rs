//! Opening a snapshot: whatever is taken is sealed to the same bytes again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use treadle::{Secrets, snapshot};
use treadle_fuzz::{secrets, unsigned};

fuzz_target!(|data: &[u8]| {
    let _ = snapshot::open(data.to_vec().into(), &secrets());
    let _ = snapshot::open(data.to_vec().into(), &Secrets::none());
    let Some(bytes) = unsigned(data) else { return };
    if let Ok(image) = snapshot::open(bytes.clone(), &Secrets::none()) {
        assert_eq!(snapshot::seal(&image, &Secrets::none()), Ok(bytes.to_vec()));
    }
});
