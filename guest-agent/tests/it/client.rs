//! The host's side against a guest that is played by the test: honest, hostile or gone.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use guest_agent::client::{self, ClientError, Control, Event};
use guest_agent::proto::io::{self as wire, StreamError};
use guest_agent::proto::{
    Configure, ExecOutput, ExecRequest, Exit, Hello, Kind, Ready, Refused, Shutdown, StdinMode, VersionError,
    frame,
};

use crate::support::PATIENCE;

/// A guest that does what `play` says.
fn guest(play: impl FnOnce(UnixStream) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
    let (host, guest) = UnixStream::pair().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    (host, std::thread::spawn(move || play(guest)))
}

fn greet(stream: &mut UnixStream) {
    wire::send_hello(stream).unwrap();
    wire::receive_hello(stream).unwrap();
}

fn receive(stream: &mut UnixStream) -> (Kind, Vec<u8>) {
    let mut payload = Vec::new();
    let kind = wire::receive(stream, &mut payload).unwrap().unwrap();
    (kind, payload)
}

fn send(stream: &mut UnixStream, kind: Kind, payload: &[u8]) {
    let mut out = Vec::new();
    frame::append(&mut out, kind, payload).unwrap();
    stream.write_all(&out).unwrap();
}

/// A guest that answers an exec request with `answer` and waits until the host has closed.
fn exec_answered(answer: Vec<u8>) -> (client::Events, JoinHandle<()>) {
    let (host, thread) = guest(move |mut stream| {
        greet(&mut stream);
        receive(&mut stream);
        let _ = stream.write_all(&answer);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (_, events, _) = client::exec(host, &ExecRequest::new(["x"])).unwrap().split();
    (events, thread)
}

#[test]
fn a_guest_is_configured_and_ended() {
    let (host, thread) = guest(|mut stream| {
        greet(&mut stream);
        let (kind, payload) = receive(&mut stream);
        let got: Configure = frame::parse_json(kind, &payload).unwrap();
        assert_eq!(got.hostname, "box");
        let ready = Ready { kernel: "6.12\u{1b}[2J".into(), ..Ready::default() };
        let mut out = Vec::new();
        ready.encode(&mut out).unwrap();
        stream.write_all(&out).unwrap();
        let (kind, payload) = receive(&mut stream);
        assert_eq!((kind, Shutdown::parse(&payload).unwrap()), (Kind::Shutdown, Shutdown::PowerOff));
    });
    let mut control = Control::handshake(host).unwrap();
    assert_eq!(control.generation(), 1);
    let ready = control.configure(&Configure { hostname: "box".into(), ..Configure::default() }).unwrap();
    assert_eq!(ready.kernel, "6.12\u{fffd}[2J", "the guest cannot move the host's cursor");
    control.shutdown(Shutdown::PowerOff).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_refusal_says_which_step_failed() {
    let (host, thread) = guest(|mut stream| {
        greet(&mut stream);
        receive(&mut stream);
        let refused = Refused { stage: "mount \"/usr\"".into(), errno: 19, detail: "No such device".into() };
        let mut out = Vec::new();
        refused.encode(&mut out).unwrap();
        stream.write_all(&out).unwrap();
    });
    let error = Control::handshake(host).unwrap().configure(&Configure::default()).unwrap_err();
    assert!(matches!(&error, ClientError::Refused(refused) if refused.errno == 19));
    assert_eq!(error.to_string(), "the guest could not mount \"/usr\": No such device");
    thread.join().unwrap();
}

#[test]
fn a_bad_configuration_never_leaves_the_host() {
    let (host, thread) = guest(|mut stream| {
        greet(&mut stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let configure = Configure { hostname: "x".repeat(100), ..Configure::default() };
    assert!(Control::handshake(host).unwrap().configure(&configure).is_err());
    thread.join().unwrap();
}

#[test]
fn another_generation_is_named_on_both_sides() {
    let (host, thread) = guest(|mut stream| {
        stream.write_all(&Hello { newest: 9, oldest: 8 }.encode()).unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
    });
    let error = Control::handshake(host).unwrap_err();
    let ClientError::Stream { source: StreamError::Version(VersionError::NoCommon { .. }), .. } = error
    else {
        panic!("{error:?}");
    };
    thread.join().unwrap();
}

#[test]
fn a_guest_that_breaks_the_protocol_is_an_error_and_then_nothing() {
    let mut misplaced = Vec::new();
    frame::append(&mut misplaced, Kind::Ready, b"{}").unwrap();
    let mut bad_exit = Vec::new();
    frame::append(&mut bad_exit, Kind::Exited, &[7, 7, 7]).unwrap();
    let too_long = vec![Kind::Stdout.number(), 0x7f, 0xff, 0xff, 0xff];
    let cut_off = vec![Kind::Stdout.number(), 0, 0, 1, 0, b'x'];
    for answer in [misplaced, bad_exit, too_long, vec![0xee; 64]] {
        let (mut events, thread) = exec_answered(answer.clone());
        assert!(events.recv().is_err(), "{answer:02x?}");
        assert!(events.recv().unwrap().is_none());
        thread.join().unwrap();
    }
    let (host, thread) = guest(move |mut stream| {
        greet(&mut stream);
        receive(&mut stream);
        stream.write_all(&cut_off).unwrap();
    });
    let (_, mut events, _) = client::exec(host, &ExecRequest::new(["x"])).unwrap().split();
    assert!(matches!(events.recv(), Err(ClientError::Stream { source: StreamError::Closed, .. })));
    thread.join().unwrap();
}

#[test]
fn there_is_nothing_after_the_exit() {
    let mut answer = Vec::new();
    ExecOutput::Exited(Exit::code(0)).encode(&mut answer).unwrap();
    ExecOutput::Stdout(b"late").encode(&mut answer).unwrap();
    let (mut events, thread) = exec_answered(answer);
    assert_eq!(events.recv().unwrap(), Some(Event::Exited(Exit::code(0))));
    assert_eq!(events.recv().unwrap(), None);
    thread.join().unwrap();
}

#[test]
fn credit_that_overflows_and_a_silent_guest_do_no_harm() {
    let mut answer = Vec::new();
    for _ in 0..3 {
        ExecOutput::StdinCredit(u32::MAX).encode(&mut answer).unwrap();
    }
    ExecOutput::StdinClosed.encode(&mut answer).unwrap();
    let (mut events, thread) = exec_answered(answer);
    assert_eq!(events.recv().unwrap(), Some(Event::StdinClosed));
    events.set_silence_max(Some(std::time::Duration::from_millis(1))).unwrap();
    assert!(events.recv().is_err(), "nothing comes");
    thread.join().unwrap();
}

#[test]
fn input_waits_for_credit_and_is_cut_into_frames() {
    let (host, thread) = guest(|mut stream| {
        greet(&mut stream);
        receive(&mut stream);
        let mut got = 0;
        while got < 200_000 {
            let mut credit = Vec::new();
            ExecOutput::StdinCredit(100_000).encode(&mut credit).unwrap();
            stream.write_all(&credit).unwrap();
            let mut window = 0;
            while window < 100_000 {
                let (kind, payload) = receive(&mut stream);
                assert_eq!(kind, Kind::Stdin);
                window += payload.len();
            }
            assert_eq!(window, 100_000, "never more than was granted");
            got += window;
        }
        assert_eq!(receive(&mut stream).0, Kind::StdinEof);
        send(&mut stream, Kind::Exited, &[0, 0, 0]);
    });
    let mut request = ExecRequest::new(["x"]);
    request.stdin = StdinMode::Pipe;
    let (mut stdin, mut events, _) = client::exec(host, &request).unwrap().split();
    let writer = std::thread::spawn(move || {
        stdin.write_all(&[b'x'; 200_000]).unwrap();
        stdin.close().unwrap();
    });
    assert_eq!(events.recv().unwrap(), Some(Event::Exited(Exit::code(0))));
    writer.join().unwrap();
    thread.join().unwrap();
}

#[test]
fn abandoning_wakes_a_writer_that_waits_for_credit() {
    let (host, thread) = guest(|mut stream| {
        greet(&mut stream);
        receive(&mut stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection is cut");
    });
    let (mut stdin, _events, remote) = client::exec(host, &ExecRequest::new(["x"])).unwrap().split();
    let writer = std::thread::spawn(move || stdin.write(b"x").unwrap_err().kind());
    remote.abandon();
    assert_eq!(writer.join().unwrap(), std::io::ErrorKind::BrokenPipe);
    assert!(remote.signal(0).is_err() && remote.signal(65).is_err());
    thread.join().unwrap();
}
