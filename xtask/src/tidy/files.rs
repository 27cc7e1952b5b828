//! Sizes of source files, and where `unsafe` may stand.

use super::{Findings, Tracked};

/// Code lines before the in-file tests, from which a file is worth splitting.
const CODE_LINES_SOFT: usize = 400;
/// And from which it must be.
const CODE_LINES_MAX: usize = 800;
/// In-file tests longer than this belong into a file of their own.
const TEST_LINES_SOFT: usize = 300;

/// Where memory safety is in our hands: system calls, guest memory, locked pages.
const UNSAFE_PLACES: [&str; 4] =
    ["vmm-core/", "guest-agent/src/server/", "guest-agent/src/main.rs", "credvault/src/lock"];

pub fn check(files: &[Tracked], findings: &mut Findings) {
    for file in files.iter().filter(|f| f.path.ends_with(".rs")) {
        size(file, findings);
        let allowed = UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place));
        if !allowed && let Some(line) = unsafe_line(&file.text) {
            findings.error(format!("{}:{line}: unsafe code has no place here", file.path));
        }
    }
}

fn size(file: &Tracked, findings: &mut Findings) {
    let is_test = file.path.contains("tests/") || file.path.ends_with("/tests.rs");
    let (code, tests) = file.text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&file.text, ""));
    let lines = code_lines(code);
    if lines > CODE_LINES_MAX {
        findings.error(format!("{}: {lines} code lines; {CODE_LINES_MAX} is the limit", file.path));
    } else if lines > CODE_LINES_SOFT && !is_test {
        findings.warning(format!("{}: {lines} code lines; split it above {CODE_LINES_SOFT}", file.path));
    }
    let tests = tests.lines().count();
    if tests > TEST_LINES_SOFT {
        findings.warning(format!("{}: {tests} lines of tests; move them to a tests.rs", file.path));
    }
}

/// Lines that are neither blank nor only a comment.
fn code_lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The first line with an unsafe block, function, implementation or attribute.
fn unsafe_line(text: &str) -> Option<usize> {
    // In two pieces, so that this file does not find itself.
    let forms = [" {", " fn", " impl", " extern", " trait", "("].map(|end| format!("{}{end}", "unsafe"));
    let is_code = |line: &str| forms.iter().any(|form| line.contains(form));
    let strip = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().position(|line| is_code(&strip(line))).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Findings {
        let mut findings = Findings::default();
        check(&[Tracked { path: path.into(), text: text.into() }], &mut findings);
        findings
    }

    #[test]
    fn code_lines_leave_out_comments_blanks_and_tests() {
        assert_eq!(code_lines("//! head\n\nfn a() {\n    // why\n    b();\n}\n"), 3);
        let long = format!("{}#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(801), "y\n".repeat(301));
        let found = findings("a/src/lib.rs", &long);
        assert_eq!((found.errors.len(), found.warnings.len()), (1, 1), "{found:?}");
        assert!(findings("a/src/lib.rs", &"x\n".repeat(400)).warnings.is_empty());
    }

    #[test]
    fn unsafe_is_found_where_it_is_not_allowed() {
        let code = format!("fn a() {{\n    {} {{ b() }}\n}}\n", "unsafe");
        assert_eq!(
            findings("netproxy/src/a.rs", &code).errors,
            ["netproxy/src/a.rs:2: unsafe code has no place here"]
        );
        assert!(findings("vmm-core/src/a.rs", &code).errors.is_empty());
        assert!(
            findings("policy/src/lib.rs", "#![forbid(unsafe_code)] // no unsafe { }\n").errors.is_empty()
        );
    }
}
