//! README.md, "The proxy alone": what a reader types there, typed here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::proxy::path;
use crate::world::shown;

/// The first block of this language in the section.
fn block<'a>(section: &'a str, language: &str) -> &'a str {
    let (_, rest) = section.split_once(&format!("```{language}\n")).expect("a block of this language");
    rest.split_once("\n```").expect("an end").0
}

#[test]
fn the_proxy_alone_works_as_readme_says() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## The proxy alone\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("openai.toml"), block(section, "toml")).unwrap();
    let program = folder.path().join("target/release/examples");
    fs::create_dir_all(&program).unwrap();
    std::os::unix::fs::symlink(path(), program.join("inject-proxy")).unwrap();
    // From the line that starts it to the one that reads what it says; its build was done above.
    let typed = block(section, "console");
    let (_, typed) = typed.split_once("\n$ rm ").expect("the line after the build");
    let (typed, _) = typed.split_once("\n$ curl ").expect("the first line of a client");
    let ca = folder.path().join("ca");
    fs::write(folder.path().join("proxy.env"), "export HTTPS_PROXY=http://stale.test\n# ready\n").unwrap();
    let typed = format!("rm {typed}")
        .replace("\n$ ", "\n")
        .replace(":3128", ":0")
        .replace("/tmp/proxy-ca", ca.to_str().unwrap())
        .replace("sk-…", "sk-proj-0123456789abcdef0123456789abcdef");
    let script =
        format!("{typed}\necho \"proxy $HTTPS_PROXY\"\necho \"key $OPENAI_API_KEY\"\nkill $!; wait $!\n");
    // One that does not start would be waited for without end.
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=5", "60", "sh", "-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("proxy http://127.0.0.1:") && text.contains("key sk-proj-"), "{text}");
    assert!(!text.contains("0123456789abcdef"), "{text}");
    assert!(ca.join("ca-bundle.pem").exists());
    let mode = fs::metadata(folder.path().join("audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
