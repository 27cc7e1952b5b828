//! Messages of the control connection: what is read is written and read again as the same, and what is found
//! good leads to no place outside the guest's new root.

#![no_main]

use guest_agent::limits;
use guest_agent::proto::frame::{self, Split};
use guest_agent::proto::{Bytes, Configure, Kind, Ready, Refused, Shutdown, WireError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(configure) = frame::parse_json::<Configure>(Kind::Configure, bytes) {
        let again: Configure = through_the_wire(Kind::Configure, |out| configure.encode(out));
        assert_eq!(again, configure);
        let found = configure.validate();
        assert_eq!(again.validate().is_ok(), found.is_ok());
        if found.is_ok() {
            check(&configure);
        }
    }
    if let Ok(ready) = frame::parse_json::<Ready>(Kind::Ready, bytes) {
        assert_eq!(through_the_wire::<Ready>(Kind::Ready, |out| ready.encode(out)), ready);
    }
    if let Ok(refused) = frame::parse_json::<Refused>(Kind::Refused, bytes) {
        assert_eq!(through_the_wire::<Refused>(Kind::Refused, |out| refused.encode(out)), refused);
    }
    if let Ok(shutdown) = Shutdown::parse(bytes) {
        let mut out = Vec::new();
        shutdown.encode(&mut out).unwrap();
        assert_eq!(&out[frame::HEADER_BYTES..], bytes);
    }
});

fn through_the_wire<T: serde::de::DeserializeOwned>(
    kind: Kind,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> T {
    let mut out = Vec::new();
    encode(&mut out).expect("what was read fits");
    match frame::split(&out).unwrap() {
        Split::Frame { kind: found, payload, used } if found == kind && used == out.len() => {
            frame::parse_json(kind, payload).expect("what was written can be read")
        }
        other => panic!("{other:?}"),
    }
}

fn check(configure: &Configure) {
    assert!(configure.hostname.len() <= limits::HOSTNAME_BYTES_MAX);
    let targets = configure.mounts.iter().map(|mount| &mount.target);
    let absolute = targets
        .chain(configure.symlinks.iter().map(|link| &link.path))
        .chain(configure.directories.iter().map(|directory| &directory.path))
        .chain(configure.files.iter().map(|file| &file.path));
    for path in absolute {
        assert!(path.as_slice().starts_with(b"/") && is_plain(path), "{path:?}");
    }
    for mount in &configure.mounts {
        assert!(!mount.source.as_slice().starts_with(b"/") && is_plain(&mount.source), "{mount:?}");
    }
}

fn is_plain(path: &Bytes) -> bool {
    let climbs = path.as_path().components().any(|part| part == std::path::Component::ParentDir);
    !climbs && !path.as_slice().contains(&0) && path.as_slice().len() <= limits::PATH_BYTES_MAX
}
