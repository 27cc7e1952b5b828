//! Messages of an exec connection: what is read is written as the same bytes; a request that is found good is
//! one that Linux can carry.

#![no_main]

use guest_agent::limits;
use guest_agent::proto::frame::{self, Split};
use guest_agent::proto::{Bytes, ExecInput, ExecOutput, ExecRequest, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, payload)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(*choice) % Kind::ALL.len()];
    if payload.len() > kind.payload_bytes_max() {
        return;
    }
    let mut out = Vec::new();
    if let Ok(input) = ExecInput::parse(kind, payload) {
        input.encode(&mut out).expect("what was read fits");
        assert_eq!(frame::split(&out).unwrap(), Split::Frame { kind, payload, used: out.len() });
    }
    out.clear();
    if let Ok(output) = ExecOutput::parse(kind, payload) {
        output.encode(&mut out).expect("what was read fits");
        let Split::Frame { kind: again, payload: written, used } = frame::split(&out).unwrap() else {
            panic!("cut")
        };
        assert_eq!((again, used), (kind, out.len()));
        assert_eq!(ExecOutput::parse(again, written).unwrap(), output);
        match output {
            // JSON has more than one way to say the same.
            ExecOutput::Failed(failure) => assert!((125..=127).contains(&failure.kind.shell_code())),
            ExecOutput::Exited(exit) => {
                assert!((0..=255).contains(&exit.shell_code()));
                assert_eq!(written, payload);
            }
            _ => assert_eq!(written, payload),
        }
    }
    if let Ok(request) = frame::parse_json::<ExecRequest>(Kind::ExecRequest, payload) {
        check(&request);
    }
});

fn check(request: &ExecRequest) {
    let mut out = Vec::new();
    request.encode(&mut out).expect("what was read fits");
    let Split::Frame { kind, payload, .. } = frame::split(&out).unwrap() else { panic!("cut") };
    assert_eq!(&frame::parse_json::<ExecRequest>(kind, payload).unwrap(), request);
    if request.validate().is_err() {
        return;
    }
    assert!(!request.argv[0].is_empty());
    let pairs = request.env.iter().flat_map(|(name, value)| [name, value]);
    let strings: Vec<&Bytes> = request.argv.iter().chain(pairs).chain([&request.cwd]).collect();
    assert!(strings.iter().all(|text| !text.as_slice().contains(&0)));
    assert!(strings.iter().all(|text| text.as_slice().len() <= limits::ARG_BYTES_MAX));
    assert!(request.env.iter().all(|(name, _)| !name.is_empty() && !name.as_slice().contains(&b'=')));
}
