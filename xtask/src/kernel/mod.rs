//! `cargo xtask kernel`: builds the minimal guest kernel from Debian's kernel source package into the cache,
//! where `agent-sandbox` finds it and prefers it, since it boots in a third of the stock kernel's time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use guest_image::apt::Apt;
use guest_image::cache::Cache;
use guest_image::{Step, minimal_kernel};

use crate::context::{Context, Failure, Outcome, at, find_program, is_root, output, read, run};

const HELP: &str = "\
usage: cargo xtask kernel [--yes] [--force] [--jobs N]

Builds the minimal guest kernel (see xtask/src/kernel/options.txt) from Debian's linux-source-6.12: about
three minutes on two cores, 2 GiB of disk while it lasts, 20 MiB afterwards.

  --yes      as root: install what the build needs (flex bison bc libelf-dev …) without asking
  --force    build although the cache has one
  --jobs N   how many compilers at once (default: one per core)";

const OPTIONS: &str = include_str!("options.txt");
const SOURCE: &str = "linux-source-6.12";

/// Programs and headers the build needs, with the package that has them.
const NEEDS: [(&str, &str); 8] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("/usr/include/gelf.h", "libelf-dev"),
];

/// Entry of the verb.
pub fn main(context: &Context, arguments: &[String]) -> Outcome {
    let (mut yes, mut force, mut jobs) = (false, false, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--yes" => yes = true,
            "--force" => force = true,
            "--jobs" => jobs = rest.next().and_then(|n| n.parse::<usize>().ok()),
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(Failure::usage(format!("unknown option `{other}`\n\n{HELP}"))),
        }
    }
    if let Some(kernel) = minimal_kernel(&context.cache).filter(|_| !force) {
        println!("{}", kernel.display());
        return Ok(());
    }
    require_tools(yes)?;
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let kernel = build(context, jobs)?;
    println!("{}", kernel.display());
    Ok(())
}

fn require_tools(yes: bool) -> Outcome {
    let missing: Vec<&str> = NEEDS
        .into_iter()
        .filter(|(what, _)| !Path::new(what).is_file() && find_program(what).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !(yes && is_root()) {
        return Err(Failure::usage(format!("the kernel's build needs more packages: sudo {command}")));
    }
    run(Command::new("sh")
        .args(["-c", &format!("apt-get update -qq && DEBIAN_FRONTEND=noninteractive {command}")]))
}

fn build(context: &Context, jobs: usize) -> Outcome<PathBuf> {
    let folder = context.cache.join("build");
    at(&folder, fs::create_dir_all(&folder))?;
    let work = at(&folder, tempfile::tempdir_in(&folder))?;
    unpack_source(context, work.path())?;
    let tree = work.path().join("linux");
    let make = |targets: &[&str]| {
        let mut command = Command::new("make");
        command.current_dir(&tree).arg("--silent").args(targets);
        run(&mut command)
    };
    make(&["tinyconfig"])?;
    let wanted: Vec<Wanted<'_>> = parse(OPTIONS);
    let mut configure = Command::new(tree.join("scripts/config"));
    configure.current_dir(&tree);
    for option in &wanted {
        configure.args([if option.on { "--enable" } else { "--disable" }, option.name]);
    }
    run(&mut configure)?;
    make(&["olddefconfig"])?;
    check(&wanted, &read(&tree.join(".config"))?)?;
    make(&[&format!("-j{jobs}"), "vmlinux"])?;
    let release = read(&tree.join("include/config/kernel.release"))?.trim().to_owned();
    place(context, &tree, &release)
}

/// Downloads and unpacks Debian's source package, then the tarball in it.
fn unpack_source(context: &Context, work: &Path) -> Outcome {
    let cache = Cache::new(&context.cache);
    let lock = cache.writer()?;
    let apt = Apt::new(&cache.entry("apt"))?;
    let progress = &mut |step: Step<'_>| eprintln!("{step}");
    apt.update(progress)?;
    let deb = apt.download(SOURCE, work, progress)?;
    drop(lock);
    let package = work.join("package");
    apt.unpack(&deb, &package)?;
    let tree = work.join("linux");
    at(&tree, fs::create_dir(&tree))?;
    let tarball = package.join("usr/src").join(format!("{SOURCE}.tar.xz"));
    eprintln!("unpacking {SOURCE}.tar.xz");
    run(Command::new("tar").arg("-xf").arg(tarball).args(["--strip-components=1", "-C"]).arg(&tree))
}

fn place(context: &Context, tree: &Path, release: &str) -> Outcome<PathBuf> {
    let cache = Cache::new(&context.cache);
    let writer = cache.writer()?;
    let scratch = writer.scratch()?;
    let root = scratch.path().join("root");
    at(&root, fs::create_dir(&root))?;
    for (from, to) in [("vmlinux", "vmlinux"), (".config", "config")] {
        let to = root.join(to);
        at(&to, fs::copy(tree.join(from), &to))?;
    }
    output(Command::new("strip").arg("--strip-debug").arg(root.join("vmlinux")))?;
    let name = format!("kernels/minimal-{release}");
    let old = cache.entry(&name);
    if old.exists() {
        at(&old, fs::remove_dir_all(&old))?;
    }
    Ok(writer.place_folder(&root, &name)?.join("vmlinux"))
}

/// One wish of `options.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted<'a> {
    name: &'a str,
    on: bool,
}

fn parse(text: &str) -> Vec<Wanted<'_>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.flat_map(str::split_whitespace);
    words
        .map(|word| {
            word.strip_prefix('-').map_or(Wanted { name: word, on: true }, |name| Wanted { name, on: false })
        })
        .collect()
}

/// kconfig drops silently what it cannot satisfy; a kernel that lacks something would fail much later.
fn check(wanted: &[Wanted<'_>], config: &str) -> Outcome {
    let is_on =
        |name: &str| config.lines().any(|line| line.strip_prefix("CONFIG_") == Some(&format!("{name}=y")));
    let broken: Vec<String> = wanted
        .iter()
        .filter(|w| is_on(w.name) != w.on)
        .map(|w| format!("{} ({})", w.name, if w.on { "not on" } else { "still on" }))
        .collect();
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("options not as wanted: {}", broken.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_words_and_a_dash_switches_off() {
        let wanted = parse("# NOT THIS\nA -B\nC\n");
        assert_eq!(wanted, [("A", true), ("B", false), ("C", true)].map(|(name, on)| Wanted { name, on }));
        assert!(check(&wanted, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n").is_ok());
        let text = check(&wanted, "CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=y\n").unwrap_err().to_string();
        assert_eq!(text, "options not as wanted: A (not on), B (still on)");
    }

    #[test]
    fn the_shipped_list_names_nothing_twice() {
        let mut names: Vec<_> = parse(OPTIONS).iter().map(|w| w.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
