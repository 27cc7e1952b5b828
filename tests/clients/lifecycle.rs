//! `inject-proxy` itself: what it says, what it refuses, signals, and where a key must not be.

use std::fs;
use std::io::{Read, Write};
use std::process::Output;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::proxy::{KEY, run};
use crate::tools::{find, need};
use crate::world::{ALLOWED, World, shown};

/// Of one request to a host that the policy allows.
fn status(world: &World) -> String {
    let mut curl = world.client("curl".as_ref());
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", &world.url(ALLOWED, "/hello")]);
    shown(&curl.output().unwrap())
}

fn refused(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let output: Output = run(&arguments);
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_served() {
    let local = ["--listen", "127.0.0.1:0"];
    let text = refused(&["--listen", "0.0.0.0:0", "--secret", "K=HOST_SIDE_KEY@api.test"]);
    assert!(text.contains("--i-know-anyone-can-use-it"), "{text}");
    let text = refused(&[&local[..], &["--policy", "/nonexistent/policy.toml"]].concat());
    assert!(text.contains("cannot read") && text.contains("/nonexistent/policy.toml"), "{text}");
    let text = refused(&[&local[..], &["--secret", "K=sk_live_123456@api.test"]].concat());
    assert!(text.contains("is not set") && !text.contains("sk_live"), "what may be a key is shown: {text}");
    let text =
        refused(&[&local[..], &["--store", "age:/nonexistent/keys.age", "--secret", "K@api.test"]].concat());
    assert!(text.contains("secret K") && text.contains("keys.age"), "{text}");
    let text =
        refused(&[&local[..], &["--secret", "K=HOST_SIDE_KEY@h", "--limit", "requests-per-s=0"]].concat());
    assert!(text.contains("requests-per-s is from 1"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "version = 1\n[[allow]]\nhost = \"api.test\"\nupstream = \"corp\"\n").unwrap();
    let text = refused(&[&local[..], &["--policy", policy.to_str().unwrap()]].concat());
    assert!(text.contains("\"corp\"") && text.contains("--upstream-proxy corp=VAR"), "{text}");
    let many = ["--secret", "K=HOST_SIDE_KEY@h", "--audit", "log", "--audit-rotate", "1MiB:4000000000"];
    let text = refused(&[&local[..], &many].concat());
    assert!(text.contains("at most 1000 older files"), "{text}");
    let text = refused(&[&local[..], &["--secret", "K=HOST_SIDE_KEY@h", "--name", "two words"]].concat());
    assert!(text.contains("letters, digits"), "{text}");
    let text = refused(&[&local[..], &["--secret", "HTTP_PROXY=HOST_SIDE_KEY@api.test"]].concat());
    assert!(text.contains("another name"), "{text}");
}

#[test]
fn the_key_is_in_no_file_of_proc_and_the_certificate_is_no_key() {
    let mut world = World::start();
    let process = format!("/proc/{}", world.proxy().pid());
    for file in ["environ", "cmdline"] {
        // Only root may read those of a hardened process.
        if let Ok(content) = fs::read(format!("{process}/{file}")) {
            assert!(!String::from_utf8_lossy(&content).contains(KEY), "{file}");
        }
    }
    for file in ["ca.pem", "ca-bundle.pem"] {
        let text = fs::read_to_string(world.folder.path().join("ca").join(file)).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY"), "{file}");
    }
    let (proxy, other) = (&world.variables()["HTTPS_PROXY"], &world.variables()["http_proxy"]);
    assert!(proxy.starts_with("http://127.0.0.1:") && proxy == other && !proxy.ends_with(":0"), "{proxy}");
    assert_eq!(world.variables()["NODE_USE_ENV_PROXY"], "1");
    assert!(world.placeholder().starts_with("sbx-"));
}

/// `ulimit -f`, and a log that reaches it: the same as a full disk, where the system would end the process.
#[test]
fn a_log_as_long_as_the_process_may_make_it_refuses_until_it_may_go_on() {
    let Some(_) = need("a_log_as_long_as…", "curl", find("curl")) else { return };
    let mut world = World::start();
    let pid = Pid::from_raw(world.proxy().pid().cast_signed());
    let limit = |current| {
        let before = getrlimit(Resource::Fsize);
        prlimit(pid, Resource::Fsize, Rlimit { current, ..before }).unwrap();
    };
    limit(Some(0));
    // The first is let through before the write is tried.
    let mut passed = 0;
    while status(&world) == "200" {
        passed += 1;
        assert!(passed < 1000, "nothing is refused");
    }
    let said = world.proxy().next_message();
    assert!(said.contains("the audit log takes no lines") && said.contains("File too large"), "{said}");
    limit(getrlimit(Resource::Fsize).current);
    let mut refused = 0;
    while status(&world) != "200" {
        refused += 1;
        assert!(refused < 1000, "everything is refused");
    }
    assert!(world.proxy().next_message().contains("the audit log takes lines again"));
    let passed_of_log =
        world.stop().lines.iter().filter(|line| line["status"] == 200 && line["verdict"] == "allow").count();
    assert_eq!(passed_of_log, passed + 1);
}

#[test]
fn a_log_that_lacks_a_line_at_the_end_is_an_exit_code() {
    let Some(_) = need("a_log_that_lacks_a_line…", "curl", find("curl")) else { return };
    let mut world = World::start();
    let pid = Pid::from_raw(world.proxy().pid().cast_signed());
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(0), ..getrlimit(Resource::Fsize) }).unwrap();
    status(&world);
    let (code, said) = world.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("audit log"), "{said}");
}

/// Each connection takes two descriptors, and a key must not come out with a dump.
#[test]
fn the_process_takes_the_files_it_may_have_and_leaves_no_dump() {
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit { current: before.maximum.map(|most| (most / 2).max(256)), ..before };
    prlimit(None, Resource::Nofile, few).unwrap();
    let mut world = World::start();
    let of_proxy = |resource| {
        let name = if resource == Resource::Nofile { "Max open files" } else { "Max core file size" };
        let limits = fs::read_to_string(format!("/proc/{}/limits", world.proxy().pid())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut of_proxy, most) =
        (of_proxy, few.maximum.map_or("unlimited".to_owned(), |most| most.to_string()));
    assert_eq!(of_proxy(Resource::Nofile), [most.clone(), most]);
    assert_eq!(of_proxy(Resource::Core), ["0", "0"]);
}

#[test]
fn a_signal_looks_for_new_values_of_keys() {
    let Some(_) = need("a_signal_looks_for_new_values…", "curl", find("curl")) else { return };
    let secret = format!("FILE_KEY=file:{{file}}@{ALLOWED}:{{port}}");
    let mut world =
        World::with_key_file("first-value-of-it", &["--secret", &secret, "--refresh-secrets", "0"]);
    let sent = |world: &World| {
        let header = format!("Authorization: Bearer {}", world.variables()["FILE_KEY"]);
        let mut curl = world.client("curl".as_ref());
        curl.args(["-sS", "-H", &header, &world.url(ALLOWED, "/hello")]).output().unwrap();
        world.seen(ALLOWED).pop().unwrap().authorization
    };
    assert_eq!(sent(&world).as_deref(), Some("Bearer first-value-of-it"));
    fs::write(world.folder.path().join("key"), "second-value-of-it").unwrap();
    world.proxy().signal(Signal::HUP);
    while !world.proxy().next_message().contains("secret FILE_KEY: a new value is in use") {}
    assert_eq!(sent(&world).as_deref(), Some("Bearer second-value-of-it"));
}

#[test]
fn a_policy_is_reloaded_and_a_broken_one_is_not() {
    let Some(_) = need("a_policy_is_reloaded…", "curl", find("curl")) else { return };
    let mut world = World::start();
    assert_eq!(status(&world), "200");
    let file = world.folder.path().join("policy.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, "version = 1\n[[allow]\n").unwrap();
    world.proxy().signal(Signal::HUP);
    assert!(world.proxy().next_message().contains("the old one stays"));
    assert_eq!(status(&world), "200");
    let rest = good.split("[[allow]]").find(|rule| rule.contains("keyed")).unwrap();
    fs::write(&file, format!("version = 1\n[[allow]]{rest}")).unwrap();
    world.proxy().signal(Signal::HUP);
    while !world.proxy().next_message().contains("loaded again") {}
    assert_eq!(status(&world), "403");
    // Without a signal, too.
    fs::write(&file, &good).unwrap();
    let said = world.proxy().next_message();
    assert!(said.contains("loaded again, as generation 3"), "{said}");
    assert_eq!(status(&world), "200");
    let log = world.stop();
    assert_eq!(log.denials(ALLOWED).len(), 1);
    let policies: Vec<_> = log.lines.iter().filter(|line| line["layer"] == "policy").collect();
    let reasons: Vec<_> = policies.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(policies[1]["error"], "policy_not_loaded");
    assert!(reasons[1].contains("policy.toml:2"), "{reasons:?}");
    let in_force = [0, 2, 3].map(|at| reasons[at]);
    assert_eq!(in_force, [1, 2, 3].map(|number| format!("policy generation {number} is in force")));
    // Whatever a policy refuses stands after it.
    let at = |line: &serde_json::Value| log.lines.iter().position(|other| other == line);
    assert!(at(policies[2]) < at(log.denials(ALLOWED)[0]));
}

#[test]
fn a_request_above_the_limit_is_refused_and_says_so() {
    let Some(_) = need("a_request_above…", "curl", find("curl")) else { return };
    let mut world = World::with(&["--limit", "requests-per-s=1"]);
    let mut curl = world.client("curl".as_ref());
    // One connection. The second is refused, unless this machine took a second for the first; never all within the limit.
    curl.args(["-sS", "-w", "\n%{http_code}\n", &world.url(ALLOWED, "/hello?[1-60]")]);
    let text = shown(&curl.output().unwrap());
    assert!(text.contains("\n200\n"), "{text}");
    assert!(text.contains("\n403\n") && text.contains("\"error\":\"rate_limited\""), "{text}");
    let log = world.stop();
    assert!(log.lines.iter().any(|line| line["error"] == "rate_limited"), "{:?}", log.lines);
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let mut world = World::with(&["--drain", "30"]);
    let address = world.variables()["HTTP_PROXY"].trim_start_matches("http://").to_owned();
    let idle = std::net::TcpStream::connect(&address).unwrap();
    // A client after it is answered, so the idle one is being served.
    let mut next = std::net::TcpStream::connect(&address).unwrap();
    next.write_all(b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n").unwrap();
    next.read_to_end(&mut Vec::new()).unwrap();
    let said = world.stop_saying();
    assert!(said.contains("SIGTERM") && !said.contains("the time is over"), "{said}");
    drop(idle);
}

#[test]
fn a_second_signal_ends_what_the_first_would_have_waited_for() {
    let mut world = World::with(&["--drain", "600"]);
    let address = world.variables()["HTTP_PROXY"].trim_start_matches("http://").to_owned();
    let mut begun = std::net::TcpStream::connect(&address).unwrap();
    begun.write_all(b"GET / HT").unwrap();
    // A client after it is answered, so the one that has begun is being served.
    let mut next = std::net::TcpStream::connect(&address).unwrap();
    next.write_all(b"GET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n").unwrap();
    next.read_to_end(&mut Vec::new()).unwrap();
    world.proxy().signal(Signal::TERM);
    while !world.proxy().next_message().contains("have 600 s to finish") {}
    let said = world.stop_saying();
    assert!(said.contains("SIGTERM again"), "{said}");
    drop(begun);
}
