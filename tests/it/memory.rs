//! Where keys are in the memory of a running `agent-sandbox` after its guest has used them. With a guest of QEMU's: the
//! memory of one in this process would be searched too, and takes long.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::network::upstream_options;
use crate::process_memory::{assert_finds, memory_of, places};
use crate::program::{finish, one_guest, run_command, skipped, text};
use crate::upstream::{self, HOST};

/// With bytes that URLs escape.
const FROM_ENVIRONMENT: &str = "env-key/+0123456789&abcdef~ghijk";
const FROM_FILE: &str = "file-key/+9876543210&fedcba~kjihg";

/// How long closing may take on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn keys_that_a_guest_used_are_left_in_locked_memory_only() {
    const TEST: &str = "keys_that_a_guest_used_are_left_in_locked_memory_only";
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let port = upstream.address.port();
    let file = folder.path().join("key");
    fs::write(&file, FROM_FILE).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let secrets =
        [format!("A=env:THE_KEY@{HOST}:{port}"), format!("B=file:{}@{HOST}:{port}", file.to_str().unwrap())];
    let usual = upstream_options(folder.path(), &upstream);
    let mut options: Vec<&str> = usual.iter().map(String::as_str).chain(["--engine", "qemu"]).collect();
    secrets.iter().for_each(|secret| options.extend(["--secret", secret]));
    let script = format!(
        "for key in $A $B; do for version in --http1.1 --http2; do \
         curl -sS --fail $version -H \"Authorization: Bearer $key\" https://{HOST}:{port}/ok/x || exit 1; \
         curl -sS --fail $version -u user:$key https://{HOST}:{port}/ok/x || exit 1; done; done; echo used; read -r line"
    );
    let mut command = run_command(folder.path(), &options, &["/bin/sh", "-c", &script]);
    let _guest = one_guest();
    let mut child = command.env("THE_KEY", FROM_ENVIRONMENT).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut answers = String::new();
    while !answers.ends_with("used\n") {
        let read = stdout.read_line(&mut answers).unwrap();
        assert!(read > 0, "{answers}{}", text(&finish(child).stderr));
    }
    // Connections to the upstream are kept, and so are the buffers that a head was written from. A policy that changed
    // closes them.
    let policy = folder.path().join("policy.toml");
    let changed = fs::read_to_string(&policy).unwrap() + "\n# changed\n";
    fs::write(&policy, changed).unwrap();
    let end = Instant::now() + CLOSED_WITHIN;
    let (safe, open) = loop {
        let regions = match memory_of(child.id()) {
            Ok(regions) => regions,
            // What the user's other processes meet too. Root sees more.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let _ = child.kill();
                let _ = child.wait();
                return skipped(TEST, &format!("only root may read a hardened process ({error})"));
            }
            Err(error) => panic!("{error}"),
        };
        let found = [FROM_ENVIRONMENT, FROM_FILE].map(|key| places(&regions, key)).concat();
        let (safe, open): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, is_safe)| *is_safe);
        if open.is_empty() || Instant::now() > end {
            break (safe, open);
        }
    };
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let environment = fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let has = |text: &str| environment.windows(text.len()).any(|window| window == text.as_bytes());
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert!(has("THE_KEY=") && !has(FROM_ENVIRONMENT), "in /proc/PID/environ");
    // All were sent with their keys, and the guest saw none of them.
    let log = crate::network::audit(folder.path());
    assert_eq!(log.iter().filter(|line| line["credential"].is_string()).count(), 8);
    assert!(![FROM_ENVIRONMENT, FROM_FILE].iter().any(|key| answers.contains(key)), "{answers}");
    // The search is able to find: the vault's copies, and every other form.
    let count = safe.iter().filter(|(place, _)| place.starts_with("as it is in ")).count();
    assert!(count >= 2, "{safe:?}");
    assert_finds(FROM_FILE);
    assert_eq!(open, [], "beyond locked memory");
}
