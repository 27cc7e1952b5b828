//! Frames of the agent's protocol: what each piece of a program's output costs beside its copy.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use guest_agent::proto::frame::{self, Split};
use guest_agent::proto::{Configure, ExecOutput, File, Kind};

fn main() {
    divan::main();
}

/// A frame of output, from bytes to message.
#[divan::bench(args = [100, 64 * 1024])]
fn read(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut wire = Vec::new();
    ExecOutput::Stdout(&vec![b'x'; bytes]).encode(&mut wire).expect("fits");
    let length = |wire: &[u8]| match frame::split(wire) {
        Ok(Split::Frame { kind, payload, .. }) => {
            ExecOutput::parse(kind, payload).map(|_| payload.len()).ok()
        }
        _ => None,
    };
    assert_eq!(length(&wire), Some(bytes));
    bencher.bench(|| length(black_box(&wire)));
}

/// The same, from message to bytes: one copy.
#[divan::bench(args = [100, 64 * 1024])]
fn write(bencher: Bencher<'_, '_>, bytes: usize) {
    let payload = vec![b'x'; bytes];
    let mut wire = Vec::with_capacity(bytes + 16);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        wire.clear();
        frame::append(&mut wire, Kind::Stdout, black_box(&payload)).is_ok()
    });
}

/// The largest message of an ordinary start: a bundle of certificates of 220 KiB.
#[divan::bench]
fn configure(bencher: Bencher<'_, '_>) {
    let line = "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n";
    let content = line.repeat(220 * 1024 / line.len());
    let file =
        File { path: "/etc/ssl/certs/ca-certificates.crt".into(), mode: 0o644, content: content.into() };
    let mut wire = Vec::new();
    Configure { files: vec![file], ..Configure::default() }.encode(&mut wire).expect("fits");
    let payload = &wire[frame::HEADER_BYTES..];
    let read = |payload: &[u8]| frame::parse_json::<Configure>(Kind::Configure, payload);
    assert!(read(payload).is_ok());
    bencher.counter(BytesCount::new(payload.len())).bench(|| read(black_box(payload)).is_ok());
}
