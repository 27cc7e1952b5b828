//! Public addresses that are this machine's own: in a network of the test's own, where it can have some.

use std::io::Write;
use std::net::IpAddr;
use std::process::Command;

use netproxy::guard::LocalNetwork;
use netproxy::hooks::*;
use netproxy::{Builder, Host, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::hooks::Any;

const INSIDE: &str = "NETPROXY_TEST_IN_A_NETWORK_OF_ITS_OWN";
const SCRIPT: &str = "ip link set lo up && ip address add 198.51.101.7/24 dev lo && \
                      ip address add 2a00:1:2:3::7/128 dev lo || exit 77; exec \"$0\" --exact \"$1\" --nocapture";

#[test]
fn names_that_lead_to_public_addresses_of_this_machine_are_refused() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(inside());
    }
    let name = "nearby::names_that_lead_to_public_addresses_of_this_machine_are_refused";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", SCRIPT])
        .args([std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(INSIDE, "1")
        .output();
    let said = match &output {
        Ok(output) => [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat(),
        Err(error) => error.to_string(),
    };
    match output {
        Ok(output) if output.status.success() => assert!(said.contains("1 passed"), "{said}"),
        Ok(output) if output.status.code() != Some(77) && !said.contains("unshare:") => panic!("{said}"),
        _ => {
            // Past the test harness, which shows nothing of a test that passes.
            let text =
                format!("\nSKIPPED: no network namespace, or no `ip`, for a test of own addresses: {said}\n");
            std::io::stdout().write_all(text.as_bytes()).unwrap();
        }
    }
}

const MACHINE: &str = "an address of this machine";
const LINK: &str = "on this machine's local network";
const CASES: [(&str, &str); 5] = [
    ("here.example", MACHINE),
    ("198.51.101.7", MACHINE),
    ("v6.example", MACHINE),
    ("lan.example", LINK),
    ("lan6.example", LINK),
];

/// The same where an embedder says what is near: nothing is dialled.
#[tokio::test]
async fn names_that_lead_to_what_is_said_to_be_near_are_refused() {
    let [v4, v6] = ["198.51.101.7", "2a00:1:2:3::7"].map(|address| address.parse::<IpAddr>().unwrap());
    let near = move || Ok(LocalNetwork::default().with_interface(v4, 24).with_interface(v6, 128));
    let proxy = names().local_network(near).build().unwrap();
    for (host, place) in CASES.into_iter().chain([("nat64.example", MACHINE), ("lan64.example", LINK)]) {
        refused(&proxy, (host, 9), place).await;
    }
}

async fn refused(proxy: &Proxy, (host, port): (&str, u16), place: &str) {
    let answer = get(proxy, host, port).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("address_prohibited"), "{answer}");
    assert!(answer.contains(place), "{host}: {answer}");
}

async fn inside() {
    let listener = TcpListener::bind("198.51.101.7:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlocal").await;
        }
    });
    let proxy = names().build().unwrap();
    for (host, place) in CASES {
        refused(&proxy, (host, port), place).await;
    }
    // Who says that nothing is near has it as before.
    let proxy = names().local_network(|| Ok(LocalNetwork::default())).build().unwrap();
    let answer = get(&proxy, "here.example", port).await;
    assert!(answer.ends_with("local"), "{answer}");
}

fn names() -> Builder {
    let fixed = [
        ("here.example", "198.51.101.7"),
        ("v6.example", "2a00:1:2:3::7"),
        ("lan.example", "198.51.101.20"),
        ("lan6.example", "2a00:1:2:3::20"),
        ("nat64.example", "64:ff9b::198.51.101.7"),
        ("lan64.example", "64:ff9b::198.51.101.20"),
    ];
    let resolve = fixed.into_iter().fold(
        StaticResolve::over(std::sync::Arc::new(ResolveNothing)),
        |resolve, (name, address)| {
            let Ok(Host::Name(name)) = Host::parse(name) else { panic!("{name}") };
            resolve.with(name, address.parse::<IpAddr>().unwrap())
        },
    );
    Proxy::builder().authorize(Any).resolve(resolve)
}

async fn get(proxy: &Proxy, host: &str, port: u16) -> String {
    let (mut client, far) = tokio::io::duplex(64 * 1024);
    let proxy = proxy.clone();
    let served = tokio::spawn(async move { proxy.serve(far).await });
    let request =
        format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    served.await.unwrap();
    answer
}
