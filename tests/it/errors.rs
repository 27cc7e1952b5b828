//! Each way to fail: one screen, exit code 2, the remedy named, nothing half-made left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::program::{command, finish, one_guest, path, skipped, text};

/// Runs `agent-sandbox ARGUMENTS`, which must fail before anything starts; returns what it said.
fn refused(folder: &Path, arguments: &[&str], change: impl FnOnce(&mut Command)) -> String {
    let _guest = one_guest();
    let mut command = command(folder, arguments);
    command.env_remove("CI");
    change(&mut command);
    let output = finish(command.spawn().unwrap());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().count() <= 24, "more than a screen:\n{said}");
    assert_eq!(text(&output.stdout), "");
    said
}

/// A policy where the sandbox cannot change it.
struct Policy(tempfile::TempDir);

fn policy(text: &str) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), text).unwrap();
    Policy(folder)
}

impl Policy {
    fn file(&self) -> String {
        self.0.path().join("bad.toml").to_str().unwrap().to_owned()
    }
}

#[test]
fn a_policy_with_a_syntax_error_names_file_and_line() {
    let (folder, policy) = (tempfile::tempdir().unwrap(), policy("version = 1\n[[allow]\nid = 1\n"));
    let said = refused(folder.path(), &["run", "--policy", &policy.file(), "--", "true"], |_| {});
    assert!(said.contains("bad.toml:2"), "{said}");
}

#[test]
fn an_unknown_preset_is_refused_with_the_name_that_was_meant() {
    let (folder, policy) = (tempfile::tempdir().unwrap(), policy("version = 1\nuse = [\"gihub-read\"]\n"));
    let said = refused(folder.path(), &["run", "--policy", &policy.file(), "--", "true"], |_| {});
    assert!(said.contains("bad.toml:2") && said.contains("did you mean \"github-read\"?"), "{said}");
}

#[test]
fn a_policy_does_not_include_what_the_sandbox_could_write() {
    let folder = tempfile::tempdir().unwrap();
    let (workspace, policy) = (folder.path().join("work"), folder.path().join("main.toml"));
    fs::create_dir(&workspace).unwrap();
    fs::write(workspace.join("part.toml"), "version = 1\n").unwrap();
    fs::write(&policy, "version = 1\ninclude = \"work/part.toml\"\n").unwrap();
    let said = refused(&workspace, &["run", "--policy", policy.to_str().unwrap(), "--", "true"], |_| {});
    assert!(said.contains("main.toml:2") && said.contains("the sandbox may write to"), "{said}");
}

#[test]
fn a_policy_with_an_unknown_key_is_refused() {
    let text = "version = 1\n[[allow]]\nid = \"a\"\nhost = \"a.test\"\nmethod = [\"GET\"]\n";
    let (folder, policy) = (tempfile::tempdir().unwrap(), policy(text));
    let said = refused(folder.path(), &["run", "--policy", &policy.file(), "--", "true"], |_| {});
    assert!(said.contains("bad.toml:5") && said.contains("method"), "{said}");
}

#[test]
fn a_missing_policy_or_kernel_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["run", "--policy", "none.toml", "--", "true"], |_| {});
    assert!(said.contains("none.toml"), "{said}");
    let said = refused(folder.path(), &["run", "--kernel", "no-such-kernel", "--", "true"], |_| {});
    assert!(said.contains("no-such-kernel") && said.contains("debian-6.12"), "{said}");
    fs::write(folder.path().join("garbage"), [0_u8; 4096]).unwrap();
    let said = refused(folder.path(), &["run", "--kernel", "garbage", "--", "true"], |_| {});
    assert!(said.contains("garbage"), "{said}");
}

#[test]
fn an_unknown_option_gets_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["run", "--polcy", "x", "--", "true"], |_| {});
    assert!(said.contains("--policy"), "{said}");
}

#[test]
fn a_key_on_the_command_line_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["run", "--secret", "K=sk-oops@api.test", "--", "true"], |_| {});
    assert!(said.contains("never put a key on the command line"), "{said}");
    assert!(!said.contains("sk-oops"), "{said}");
}

#[test]
fn a_secret_that_is_nowhere_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["run", "--secret", "K=env:NOT_SET@api.test", "--", "true"], |_| {});
    // What stands there could be a key by mistake, so it is not repeated.
    assert!(said.contains("secret K: the variable named after `=` is not set"), "{said}");
    assert!(!said.contains("NOT_SET"), "{said}");
    let said = refused(folder.path(), &["run", "--secret", "K@api.test", "--", "true"], |command| {
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    });
    assert!(said.contains("secret K:"), "{said}");
}

#[test]
fn what_the_guest_could_change_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.toml"), "version = 1\n").unwrap();
    for (option, file) in [("--policy", "policy.toml"), ("--audit", "audit.jsonl")] {
        let said = refused(folder.path(), &["run", option, file, "--", "true"], |_| {});
        assert!(said.contains(option) && said.contains("the sandbox may write to"), "{said}");
    }
    assert!(!folder.path().join("audit.jsonl").exists());
}

#[test]
fn parts_that_the_sandbox_makes_itself_are_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    for share in ["/etc/hosts", "/etc/passwd:ro", "/etc/ssl/certs", "/etc", "/proc", "/"] {
        let said = refused(folder.path(), &["run", "--share", share, "--", "true"], |_| {});
        assert!(said.contains("--share"), "{share}: {said}");
    }
}

#[test]
fn a_key_cannot_come_in_by_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let by_value = format!("OTHER=x{}x", crate::program::HOST_SIDE_KEY);
    for variable in ["K", "K=anything", by_value.as_str()] {
        let arguments = ["run", "--secret", "K=env:HOST_SIDE_KEY@api.test", "-e", variable, "--", "true"];
        let said = refused(folder.path(), &arguments, |_| {});
        assert!(said.contains("--env") && !said.contains(crate::program::HOST_SIDE_KEY), "{said}");
    }
    let said = refused(folder.path(), &["run", "-e", "NOT_SET_ANYWHERE", "--", "true"], |_| {});
    assert!(said.contains("NOT_SET_ANYWHERE"), "{said}");
}

#[test]
fn words_of_others_do_not_drive_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "version = 1\n# \u{1b}[2J\n[[allow]\n").unwrap();
    let said = refused(folder.path(), &["run", "--policy", "bad.toml", "--", "true"], |_| {});
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_guest_larger_than_the_host_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), &["run", "--memory", "1048576", "--", "true"], |_| {});
    assert!(said.contains("--memory") && said.contains("MiB"), "{said}");
}

#[test]
fn missing_qemu_names_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("bin");
    fs::create_dir(&empty).unwrap();
    let said =
        refused(folder.path(), &["run", "--engine", "qemu", "--no-workspace", "--", "true"], |command| {
            command.env("PATH", &empty);
        });
    assert!(said.contains("qemu-system-x86"), "{said}");
}

#[test]
fn engine_kvm_is_used_or_the_error_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let _guest = one_guest();
    let arguments = ["run", "--engine", "kvm", "--no-workspace", "--", "true"];
    let output = finish(command(folder.path(), &arguments).spawn().unwrap());
    let said = text(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(2) => {
            assert!(said.contains("engine kvm cannot be used:") && said.contains("--engine qemu"), "{said}")
        }
        other => panic!("{other:?}: {said}"),
    }
}

#[test]
fn kvm_without_permission_is_told_from_no_kvm() {
    if !Path::new("/dev/kvm").exists() || !is_root() {
        return skipped(
            "kvm_without_permission",
            "needs /dev/kvm and root, to become somebody who may not use it",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let _guest = one_guest();
    // Copied to where anybody may read it.
    let program = folder.path().join("agent-sandbox");
    fs::copy(path(), &program).unwrap();
    open_to_all(folder.path());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", "--engine", "kvm", "--no-workspace", "--", "true"])
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .current_dir("/")
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.to_lowercase().contains("permission"), "{said}");
}

#[test]
fn a_full_disk_names_the_cache_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let _guest = one_guest();
    let script = "mount -t tmpfs -o size=2m full \"$0\" || exit 77; XDG_CACHE_HOME=\"$0\" \"$1\" run --yes --engine qemu \
                  --kernel debian-6.12 --no-workspace -- true; code=$?; find \"$0\" -type f -size +0 >&2; exit $code";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    if output.status.code() == Some(77) || said.contains("unshare:") {
        return skipped("a_full_disk", "this machine allows no user namespaces");
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("disk space") && said.contains("XDG_CACHE_HOME"), "{said}");
    let left: Vec<&str> = said.lines().filter(|line| line.starts_with('/')).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// A log without room for what is to come is refused before anything starts, not when the first line is lost.
#[test]
fn a_log_on_a_full_disk_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64k full \"$0\" || exit 77; \
                  exec \"$1\" run --no-workspace --audit \"$0/audit.jsonl\" -- true";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    if output.status.code() == Some(77) || said.contains("unshare:") {
        return skipped("a_log_on_a_full_disk", "this machine allows no user namespaces");
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("audit.jsonl") && said.contains("No space left"), "{said}");
}

fn is_root() -> bool {
    text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0"
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
}
