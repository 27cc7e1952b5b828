//! `cargo xtask tidy`: rules that compilers do not check. Findings are listed together; warnings do not fail.

mod edges;
mod files;
mod names;
mod texts;

use std::path::PathBuf;

use crate::context::{Context, Failure, Outcome, at, output};

const HELP: &str = "\
usage: cargo xtask tidy

Fails on: a library that depends on another; a runtime, TLS or HTTP client where it does not belong; two
versions of a rust-vmm crate; files over 800 code lines (over 400: a warning); `unsafe` outside its places;
package-registry hosts or paths of one machine in tracked files; a fuzz target without its module, seeds,
dictionary or line in fuzz/README.md; a test named in docs/attacks.md that does not exist.";

/// What the rules found.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, text: String) {
        self.errors.push(text);
    }

    fn warning(&mut self, text: String) {
        self.warnings.push(text);
    }
}

/// A tracked file.
#[derive(Debug)]
pub struct Tracked {
    /// Path in the checkout, with slashes.
    pub path: String,
    /// Content; none of a binary file.
    pub text: String,
}

/// Entry of the verb.
pub fn main(context: &Context, arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        println!("{HELP}");
        return Ok(());
    }
    let mut findings = Findings::default();
    let files = tracked(context)?;
    edges::check(context, &mut findings)?;
    files::check(&files, &mut findings);
    texts::check(&files, &mut findings);
    names::check(&files, &mut findings);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    match findings.errors.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("tidy found {count} error(s)"))),
    }
}

/// Files that git knows or would add, so that a new file is checked before it is committed.
fn tracked(context: &Context) -> Outcome<Vec<Tracked>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(&context.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut files = Vec::new();
    for path in output(&mut git)?.split('\0').filter(|p| !p.is_empty()) {
        let full: PathBuf = context.root.join(path);
        if !full.is_file() {
            continue; // Deleted, but not yet in a commit.
        }
        let text = String::from_utf8(at(&full, std::fs::read(&full))?).unwrap_or_default();
        files.push(Tracked { path: path.to_owned(), text });
    }
    Ok(files)
}
