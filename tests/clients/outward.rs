//! How `inject-proxy` itself shows on the other side: through another proxy, with a certificate, in its log and its trace.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::check::HELLO;
use crate::proxy::KEY;
use crate::tools::{find, need};
use crate::upstream::{Kind, Over};
use crate::world::{ALLOWED, KEYED, More, OTHER, World, shown};

/// `OTHER` may be reached, as `more` says.
fn other(more: &str) -> String {
    format!(
        "version = 1\n[[allow]]\nid = \"other\"\nhost = \"{OTHER}\"\ncidr = \"127.0.0.1/32\"\nports = [{{port}}]\n{more}\n"
    )
}

fn get(world: &World, url: &str, options: &[&str]) -> String {
    let output = world.client("curl".as_ref()).args(["-sS", url]).args(options).output().unwrap();
    shown(&output)
}

/// A proxy that speaks CONNECT: its port, and the heads that it was asked with.
fn connect_proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let all = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut head = String::new();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(reader.read_line(&mut head).unwrap(), 0, "cut off: {head}");
            }
            let target = head.split(' ').nth(1).unwrap().to_owned();
            all.lock().unwrap().push(head);
            let upstream = TcpStream::connect(target).unwrap();
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (port, heads)
}

#[test]
fn what_a_rule_sends_by_an_upstream_proxy_goes_there_and_nothing_else() {
    let Some(_) = need("what_a_rule_sends…", "curl", find("curl")) else { return };
    let (port, heads) = connect_proxy();
    let url = format!("http://user:upstream-password@127.0.0.1:{port}");
    let mut world = World::with_more(&More {
        options: &["--policy", "{file}", "--upstream-proxy", "corp=UPSTREAM_PROXY_URL"],
        file: &other("upstream = \"corp\""),
        environment: &[("UPSTREAM_PROXY_URL", url)],
        ..More::default()
    });
    assert_eq!(get(&world, &world.url(ALLOWED, "/hello"), &[]), HELLO);
    assert!(heads.lock().unwrap().is_empty());
    assert_eq!(get(&world, &world.url(OTHER, "/hello"), &[]), HELLO);
    let heads = heads.lock().unwrap();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    // The address that was judged, and the login of the URL.
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", world.upstream.port)), "{head}");
    assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjp1cHN0cmVhbS1wYXNzd29yZA==\r\n"), "{head}");
    assert_eq!(world.seen(OTHER).len(), 1);
    let said = world.stop_saying();
    let log = fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    assert!(!said.contains("upstream-password") && !log.contains("upstream-password"), "{said}{log}");
}

#[test]
fn a_client_certificate_is_shown_to_its_host_alone() {
    let Some(_) = need("a_client_certificate…", "curl", find("curl")) else { return };
    let certificate = format!("{OTHER}={{client}}");
    let world = World::with_more(&More {
        options: &["--policy", "{file}", "--client-cert", &certificate],
        file: &other(""),
        upstream: Kind::Asks,
        ..More::default()
    });
    for (host, over) in [(OTHER, Over::KnownTls), (ALLOWED, Over::Tls)] {
        assert_eq!(get(&world, &world.url(host, "/hello"), &[]), HELLO);
        assert_eq!(world.seen(host)[0].over, over, "{host}");
    }
}

#[test]
fn the_log_begins_again_and_keeps_what_it_was_told_to_keep() {
    let Some(_) = need("the_log_begins_again…", "curl", find("curl")) else { return };
    let mut world = World::with(&["--audit-rotate", "4000:2", "--name", "ci-1"]);
    get(&world, &world.url(ALLOWED, "/hello?[1-40]"), &["-o", "/dev/null"]);
    let newest = world.stop();
    let file = |number: u32| world.folder.path().join(format!("audit.jsonl.{number}"));
    let whole = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let older: Vec<Vec<serde_json::Value>> =
        [2, 1].iter().map(|number| whole(fs::read_to_string(file(*number)).unwrap())).collect();
    assert!(!file(3).exists(), "more than two older files");
    // Nothing is lost between one file and the next: the times go on, and each is about as long as it may be.
    let lines = [&older[0][..], &older[1], &newest.lines].concat();
    assert!(lines.iter().all(|line| line["sandbox"] == "ci-1"), "{lines:?}");
    let times: Vec<_> = lines.iter().map(|line| line["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    for number in [1, 2] {
        let length = fs::metadata(file(number)).unwrap().len();
        assert!((2000..8000).contains(&length), "{length}");
    }
}

#[test]
fn the_trace_tells_of_requests_and_not_of_keys() {
    let Some(_) = need("the_trace_tells…", "curl", find("curl")) else { return };
    let call = |world: &World| {
        let bearer = format!("Authorization: Bearer {}", world.placeholder());
        let text = get(world, &world.url(KEYED, "/hello?token=in-the-query"), &["-H", &bearer]);
        assert_eq!(text, HELLO);
    };
    let mut world = World::with(&["--trace", "trace"]);
    call(&world);
    let said = world.stop_saying();
    assert!(said.lines().any(|line| line.contains("netproxy") && line.contains(KEYED)), "{said}");
    assert!(!said.contains(KEY) && !said.contains("in-the-query"), "{said}");
    let mut world = World::start();
    call(&world);
    let said = world.stop_saying();
    assert!(!said.contains(KEYED), "without --trace: {said}");
}
