//! Opening a snapshot: whatever is taken is sealed to the same bytes again, or to the same run in the present version.

#![no_main]

use libfuzzer_sys::fuzz_target;
use treadle::{Secrets, snapshot};
use treadle_fuzz::{secrets, unsigned};

fuzz_target!(|data: &[u8]| {
    let _ = snapshot::open(data.to_vec().into(), &secrets());
    let _ = snapshot::open(data.to_vec().into(), &Secrets::none());
    let Some(bytes) = unsigned(data) else { return };
    if let Ok(image) = snapshot::open(bytes.clone(), &Secrets::none()) {
        let again = snapshot::seal(&image, &Secrets::none()).expect("what was read can be written");
        if bytes[..10] == again[..10] {
            assert_eq!(again, bytes);
        } else {
            assert_eq!(snapshot::open(again.into(), &Secrets::none()), Ok(image));
        }
    }
});
