//! Kernel modules: names of dependencies are canonical, so that none leads out of the folder of modules.

#![no_main]

use guest_image::modinfo::{depends, name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let names = depends(bytes);
    for found in names.iter().flatten() {
        assert_eq!(name(found.as_bytes()).as_ref(), Some(found), "not canonical");
    }
    for found in names.into_iter().flatten().chain(name(bytes)) {
        assert!((1..=64).contains(&found.len()));
        assert!(found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{found}");
    }
});
