//! As much of the guest agent's protocol as these tests need, spoken by hand: the VMM does not know the
//! agent's crate. Frames are a kind byte, a length of four bytes, and JSON or bytes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Magic, newest and oldest generation.
const HELLO: &[u8; 8] = b"ASBX\0\x01\0\x01";

const CONFIGURE: u8 = 0x01;
const READY: u8 = 0x02;
const SHUTDOWN: u8 = 0x04;
const EXEC_REQUEST: u8 = 0x10;
const STDOUT: u8 = 0x21;
const EXITED: u8 = 0x25;
const FAILED: u8 = 0x26;

/// Where the shared folder is in the tree of shares, and in the guest's root.
pub const SHARE: &str = "shared";

/// Where the test's one program is put in the guest.
const PROGRAM: &str = "/read-file";

/// How the guest is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Reboot,
    PowerOff,
}

/// The control connection of a configured guest.
pub struct Control(UnixStream);

impl Control {
    /// Greets the agent and gives it a root with one program and one shared folder in it.
    pub fn configure(mut stream: UnixStream) -> Self {
        greet(&mut stream);
        let content = base64(&program());
        let json = format!(
            r#"{{"files":[{{"path":"{PROGRAM}","mode":493,"content":{{"base64":"{content}"}}}}],
                "mounts":[{{"source":"{SHARE}","target":"/{SHARE}","mode":"ro"}}]}}"#
        );
        send(&mut stream, CONFIGURE, json.as_bytes());
        let (kind, answer) = receive(&mut stream).expect("an answer to Configure");
        assert_eq!(kind, READY, "{}", String::from_utf8_lossy(&answer));
        Self(stream)
    }

    pub fn shut_down(&mut self, ending: Ending) {
        let how = match ending {
            Ending::Reboot => 0,
            Ending::PowerOff => 1,
        };
        send(&mut self.0, SHUTDOWN, &[how]);
    }
}

/// Runs the program on `path` over a fresh connection: its exit code and output.
pub fn read_file(mut stream: UnixStream, path: &str) -> (u8, Vec<u8>) {
    greet(&mut stream);
    send(&mut stream, EXEC_REQUEST, format!(r#"{{"argv":["{PROGRAM}","{path}"]}}"#).as_bytes());
    let mut output = Vec::new();
    loop {
        match receive(&mut stream) {
            Some((STDOUT, bytes)) => output.extend(bytes),
            Some((EXITED, how)) => {
                assert_eq!(how[0], 0, "the program was ended by a signal: {how:?}");
                return (how[1], output);
            }
            Some((FAILED, why)) => panic!("not run: {}", String::from_utf8_lossy(&why)),
            Some(_) => {}
            None => panic!("the guest hung up"),
        }
    }
}

fn greet(stream: &mut UnixStream) {
    stream.write_all(HELLO).unwrap();
    let mut theirs = [0; 8];
    stream.read_exact(&mut theirs).expect("the agent's greeting");
    assert_eq!(&theirs[..4], &HELLO[..4]);
}

fn send(stream: &mut UnixStream, kind: u8, payload: &[u8]) {
    let mut frame = vec![kind];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).unwrap();
}

fn receive(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes(header[1..].try_into().unwrap());
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    Some((header[0], payload))
}

/// A static program that prints the first 4096 bytes of the file its argument names; 1 if it cannot.
fn program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[rustfmt::skip]
    let code: &[u8] = &[
        0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp+16]   argv[1]
        0x31, 0xf6, // xor esi, esi
        0x6a, 0x02, 0x58, // push 2; pop rax     open
        0x0f, 0x05, // syscall
        0x89, 0xc7, // mov edi, eax
        0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00, // sub rsp, 4096
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0xba, 0x00, 0x10, 0x00, 0x00, // mov edx, 4096
        0x31, 0xc0, // xor eax, eax        read
        0x0f, 0x05, // syscall
        0x85, 0xc0, // test eax, eax
        0x78, 0x0d, // js failed
        0x89, 0xc2, // mov edx, eax
        0x6a, 0x01, 0x5f, // push 1; pop rdi
        0x89, 0xf8, // mov eax, edi        write
        0x0f, 0x05, // syscall
        0x31, 0xff, // xor edi, edi
        0xeb, 0x03, // jmp exit
        0x6a, 0x01, 0x5f, // failed: push 1; pop rdi
        0x6a, 0x3c, 0x58, // exit: push 60; pop rax
        0x0f, 0x05, // syscall
    ];
    let bytes = HEADERS + u64::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for field in [BASE + HEADERS, 64, 0] {
        file.extend(field.to_le_bytes()); // entry, program headers, no sections
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // one segment: load, read and execute
    for field in [0, BASE, BASE, bytes, bytes, 0x1000] {
        file.extend(field.to_le_bytes());
    }
    file.extend(code);
    file
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap();
            text.push(if place <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}
