//! Which kernel the guest boots, and its initramfs with our agent as `/init`.

use std::path::{Path, PathBuf};

use guest_image::{GuestImage, KernelSource, Request, SANDBOX_MODULES, Series, Step};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::error::{Error, Result};
use crate::report::{self, Style};

/// The static agent, built by this example's build script.
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-agent"));

/// Files to boot.
pub struct Kernel {
    pub vmlinux: PathBuf,
    pub initramfs: PathBuf,
}

/// Finds or fetches the kernel that `--kernel` names; the minimal one, where it was built, if it names none.
pub fn prepare(wish: Option<&str>, style: Style) -> Result<Kernel> {
    let cache = cache_dir()?;
    let mut shown = Shown { style, bar: None };
    let image = guest_image::prepare(Request {
        source: source(wish, &cache)?,
        cache_dir: &cache,
        modules: SANDBOX_MODULES,
        init: AGENT,
        files: &[],
        progress: &mut |step: Step<'_>| shown.step(step),
    })?;
    shown.done();
    let GuestImage { vmlinux, initramfs, .. } = image;
    Ok(Kernel { vmlinux, initramfs })
}

/// Whether the kernel that `--kernel` names can be meant at all.
pub fn check(wish: Option<&str>) -> Result<()> {
    source(wish, &cache_dir()?).map(drop)
}

/// The kernel that a run without `--kernel` would boot, if it is there already.
pub fn cached() -> Option<String> {
    let cache = cache_dir().ok()?;
    if let Some(minimal) = guest_image::minimal_kernel(&cache) {
        return Some(minimal.display().to_string());
    }
    let mut names: Vec<String> = std::fs::read_dir(cache.join("kernels"))
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("linux-image-6.12."))
        .collect();
    names.sort();
    names.pop()
}

/// `$XDG_CACHE_HOME/agent-sandbox`, or the same under `~/.cache`.
pub fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("agent-sandbox"))
        .ok_or_else(|| Error::Usage("there is no cache folder: set XDG_CACHE_HOME or HOME".to_owned()))
}

fn source(wish: Option<&str>, cache: &Path) -> Result<KernelSource> {
    let minimal =
        || guest_image::minimal_kernel(cache).map(|kernel| KernelSource::File { kernel, modules: None });
    match wish {
        None => Ok(minimal().unwrap_or(KernelSource::Debian(Series::V6_12))),
        Some("minimal") => minimal().ok_or_else(|| {
            Error::Usage("there is no minimal kernel yet: build it with `cargo xtask kernel`".to_owned())
        }),
        Some("debian-6.12") => Ok(KernelSource::Debian(Series::V6_12)),
        Some("debian-6.1") => Ok(KernelSource::Debian(Series::V6_1)),
        Some("host") => Ok(KernelSource::Host),
        Some(path) => match Path::new(path).is_file() {
            true => Ok(KernelSource::File { kernel: PathBuf::from(path), modules: None }),
            false => Err(Error::Usage(format!(
                "there is no kernel {path:?}\n  give a vmlinux or bzImage file, or one of minimal, debian-6.12, debian-6.1, host"
            ))),
        },
    }
}

/// One line per step, or a spinner on a terminal.
struct Shown {
    style: Style,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn step(&mut self, step: Step<'_>) {
        let text = format!("{step} …");
        if self.style != Style::Text || !report::stderr_is_terminal() {
            self.style.say("kernel", &text, json!({ "step": step.to_string() }));
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        bar.set_message(text);
    }

    fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
