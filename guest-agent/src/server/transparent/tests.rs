use super::*;
use std::io::Write as _;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

/// Set in the child that a test runs itself in.
const INSIDE: &str = "GUEST_AGENT_TEST_OWN_NETWORK";

/// Runs a test in a network of its own, as a guest has one: nothing but loopback. True for the child.
fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        crate::server::sys::loopback_up().unwrap();
        return true;
    }
    let run = |program: &[&str]| {
        let child = Command::new("unshare").arg("--net").args(program).env(INSIDE, "1").output();
        child.map_err(|error| error.to_string())
    };
    match run(&["true"]) {
        Ok(output) if output.status.success() => {}
        other => {
            let _ = writeln!(
                std::io::stdout(),
                "\nSKIPPED: {test}: no network of its own can be made here (root and unshare are needed): {other:?}"
            );
            return false;
        }
    }
    let this = std::env::current_exe().unwrap();
    let name = format!("server::transparent::tests::{test}");
    let output = run(&[this.to_str().unwrap(), "--exact", &name, "--nocapture"]).unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    for skip in text.lines().filter(|line| line.starts_with("SKIPPED")) {
        let _ = writeln!(std::io::stdout(), "\n{skip}");
    }
    false
}

/// An open door whose host ends come out of the channel; `false` where the kernel has no socket lookup.
fn serve_here(test: &str) -> Option<Receiver<UnixStream>> {
    let (door, problem) = match open() {
        Ok(opened) => opened,
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "\nSKIPPED: {test}: {error}");
            return None;
        }
    };
    assert!(problem.is_none(), "{problem:?}");
    let (sender, hosts) = mpsc::channel();
    let sender = Mutex::new(sender);
    let connect: Connect = Arc::new(move || {
        let (host, guest) = UnixStream::pair()?;
        sender.lock().unwrap().send(host).unwrap();
        Ok(guest)
    });
    serve(door, &connect).unwrap();
    Some(hosts)
}

fn line(host: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        host.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn every_port_of_every_address_leads_to_the_host_and_back() {
    let name = "every_port_of_every_address_leads_to_the_host_and_back";
    if !in_own_network(name) {
        return;
    }
    let Some(hosts) = serve_here(name) else { return };
    // Servers of the guest on every address of theirs take nothing that is meant for elsewhere.
    let _own = ["0.0.0.0:5432", "[::]:443"].map(|address| TcpListener::bind(address).unwrap());
    for asked in [
        "198.18.0.7:443",
        "192.0.2.1:5432",
        "255.1.2.3:1",
        "169.254.169.254:80",
        "[fd73:616e:6462:6f78::7]:443",
        "[2001:db8::1]:65535",
    ] {
        let mut client = TcpStream::connect(asked).unwrap();
        let mut host = hosts.recv().unwrap();
        assert_eq!(line(&mut host), format!("TCP1 {asked}\n"));
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        host.write_all(b"TCP1 OK\nanswer to ").unwrap();
        let mut got = String::new();
        host.read_to_string(&mut got).unwrap();
        host.write_all(got.as_bytes()).unwrap();
        drop(host);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer to question", "{asked}");
    }
}

#[test]
fn a_refusal_is_a_reset_whatever_the_host_says() {
    let name = "a_refusal_is_a_reset_whatever_the_host_says";
    if !in_own_network(name) {
        return;
    }
    let Some(hosts) = serve_here(name) else { return };
    for said in ["TCP1 NO blocked_by_policy 01J\n", "TCP1 OK?", "HTTP/1.1 200 OK\r\n\r\n", "TCP1 O", ""] {
        let mut client = TcpStream::connect("192.0.2.1:22").unwrap();
        let mut host = hosts.recv().unwrap();
        assert_eq!(line(&mut host), "TCP1 192.0.2.1:22\n");
        host.write_all(said.as_bytes()).unwrap();
        drop(host);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{said:?}");
    }
}

#[test]
fn what_is_the_guests_own_is_left_alone() {
    let name = "what_is_the_guests_own_is_left_alone";
    if !in_own_network(name) {
        return;
    }
    let Some(hosts) = serve_here(name) else { return };
    // An interface of the guest, as a container engine makes one.
    routes::add_address("172.17.0.1".parse().unwrap()).unwrap();
    for own in ["127.0.0.1", "127.9.8.7", "::1", "172.17.0.1", "192.0.0.8"] {
        let own: IpAddr = own.parse().unwrap();
        let listener = TcpListener::bind((own, 0)).unwrap();
        let asked = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(asked).unwrap();
        listener.accept().unwrap().0.write_all(b"own").unwrap();
        let mut got = [0; 3];
        client.read_exact(&mut got).unwrap();
        drop((client, listener));
        // Nobody listens there now, and we do not jump in.
        let error = TcpStream::connect(asked).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{asked}");
    }
    // Nothing but TCP is led here.
    for there in ["192.0.2.1:53", "198.18.0.7:443", "[2001:db8::1]:53"] {
        let own = if there.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = std::net::UdpSocket::bind(own).unwrap();
        let error = socket.send_to(b"?", there).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{there}");
    }
    assert!(hosts.try_recv().is_err());
}
