//! What the guest sees of this host, and what it can change.

use std::fs;
use std::io::{Read, Write};

use crate::program::{run, run_in, text};

const GIGABYTE: usize = 1 << 30;

#[test]
fn a_gigabyte_is_read_and_written_in_the_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let block: Vec<u8> = (0..1_usize << 20).map(|i| (i % 251) as u8).collect();
    let mut file = fs::File::create(folder.path().join("in")).unwrap();
    for _ in 0..GIGABYTE / block.len() {
        file.write_all(&block).unwrap();
    }
    drop(file);
    let script = "cksum < in && cp in out && cksum < out";
    let output = run_in(folder.path(), &[], &["/bin/sh", "-c", script], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let sums = text(&output.stdout);
    let here = std::process::Command::new("cksum")
        .stdin(fs::File::open(folder.path().join("in")).unwrap())
        .output()
        .unwrap();
    let expected = text(&here.stdout);
    assert_eq!(sums, format!("{expected}{expected}"));
    let mut written = fs::File::open(folder.path().join("out")).unwrap();
    assert_eq!(written.metadata().unwrap().len(), GIGABYTE as u64);
    let mut first = vec![0; block.len()];
    written.read_exact(&mut first).unwrap();
    assert!(first == block);
}

#[test]
fn the_host_is_read_only_and_its_secrets_are_absent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "before").unwrap();
    let kept = tempfile::tempdir().unwrap();
    fs::write(kept.path().join("kept"), "before").unwrap();
    let script = format!(
        "set -e; test ! -e /etc/shadow; test ! -e /etc/ssl/private; test -z \"$(ls -A /root)\"; \
         ! echo x > {kept}/kept; ! touch {kept}/new; cat {kept}/kept; \
         touch /usr/bin/new-in-memory; test -e /usr/bin/new-in-memory; \
         echo after > mine; pwd",
        kept = kept.path().display()
    );
    let share = format!("{}:ro", kept.path().display());
    let output = run_in(folder.path(), &["--share", &share], &["/bin/sh", "-c", &script], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        format!("before{}\n", fs::canonicalize(folder.path()).unwrap().display())
    );
    assert_eq!(fs::read_to_string(folder.path().join("mine")).unwrap(), "after\n");
    assert_eq!(fs::read_to_string(kept.path().join("kept")).unwrap(), "before");
    assert!(!kept.path().join("new").exists());
    assert!(!std::path::Path::new("/usr/bin/new-in-memory").exists());
}

/// GHSA-g6ww-w5j2-r7x3: read-only that root in the guest can remount away is none.
#[test]
fn a_read_only_share_stays_so_when_the_guest_remounts_it() {
    let kept = tempfile::tempdir().unwrap();
    fs::write(kept.path().join("kept"), "before").unwrap();
    let script = format!(
        "mount -o remount,rw {kept}; echo x > {kept}/kept; rm {kept}/kept; mv {kept}/kept {kept}/moved; \
         chmod 777 {kept}/kept; ln -s /etc/shadow {kept}/link; true",
        kept = kept.path().display()
    );
    let share = format!("{}:ro", kept.path().display());
    run(&["--share", &share], &["/bin/sh", "-c", &script]);
    assert_eq!(fs::read_to_string(kept.path().join("kept")).unwrap(), "before");
    assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 1);
}

#[test]
fn a_symbolic_link_in_the_workspace_leads_nowhere_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("outside"), "not for the guest").unwrap();
    std::os::unix::fs::symlink(outside.path().join("outside"), folder.path().join("link")).unwrap();
    let output = run_in(folder.path(), &[], &["cat", "link"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn without_workspace_the_folder_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "").unwrap();
    let path = folder.path().join("mine").display().to_string();
    let output = run_in(folder.path(), &["--no-workspace"], &["test", "-e", &path], b"");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_share_of_the_workspace_says_how_it_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "before").unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    let output =
        run_in(folder.path(), &["--share", ".:ro"], &["/bin/sh", "-c", "cat mine; echo x > mine"], b"");
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "before");
    assert_eq!(fs::read_to_string(folder.path().join("mine")).unwrap(), "before");
    // One writable part inside another.
    let output = run_in(
        folder.path(),
        &["--share", "inner"],
        &["/bin/sh", "-c", "echo x > inner/new && cat inner/new"],
        b"",
    );
    assert_eq!(text(&output.stdout), "x\n", "{}", text(&output.stderr));
    assert!(folder.path().join("inner/new").is_file());
}

#[test]
fn files_of_the_guest_are_as_old_as_they_seem() {
    let output = run(&[], &["/bin/sh", "-c", "touch f; a=$(date +%s); b=$(stat -c %Y f); echo $((a - b))"]);
    let apart: i64 = text(&output.stdout).trim().parse().unwrap();
    assert!((-1..=1).contains(&apart), "a file made now is {apart} s old");
}

/// A workspace may have a FIFO, a socket or a device of the host in it: none may hang or open the device.
#[test]
fn a_fifo_of_the_host_hangs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap().success());
    let output = run_in(folder.path(), &[], &["/bin/sh", "-c", "timeout 2 cat fifo; ls"], b"");
    assert_eq!(text(&output.stdout), "fifo\n", "{}", text(&output.stderr));
}
