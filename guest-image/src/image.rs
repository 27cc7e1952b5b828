//! The one call that embedders need: from a kernel source and an init program to what a microVM boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{self, Cache, Writer};
use crate::cpio::Archive;
use crate::error::Result;
use crate::modules::{Module, ModuleFolder};
use crate::progress::{Progress, Step};
use crate::source::{self, Kernel, KernelSource};

/// Changes when the layout of the initramfs does, so that old cache entries are not taken.
const LAYOUT: &[u8] = b"1";
/// Cached initramfs files not used for a new one within this time are removed when another is written.
const INITRAMFS_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const INITRAMFS: &str = "initramfs";

/// A file to put into the initramfs besides `/init` and the modules.
#[derive(Debug, Clone, Copy)]
pub struct ExtraFile<'a> {
    /// Relative path, such as `bin/busybox`. Its folders are made.
    pub path: &'a str,
    /// Permission bits.
    pub permissions: u32,
    /// Content.
    pub bytes: &'a [u8],
}

/// What a guest needs.
pub struct Request<'a> {
    /// Which kernel.
    pub source: KernelSource,
    /// The program's cache folder, such as `$XDG_CACHE_HOME/agent-sandbox`. Made when missing.
    pub cache_dir: &'a Path,
    /// Modules to load, in order; dependencies are added, built-in ones left out.
    pub modules: &'a [&'a str],
    /// The static program that becomes PID 1.
    pub init: &'a [u8],
    /// More files for the initramfs.
    pub files: &'a [ExtraFile<'a>],
    /// Told of each slow step.
    pub progress: &'a mut dyn Progress,
}

/// Files to boot. They stay valid as long as the cache is not cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// Kernel release, such as `6.12.117+deb12-cloud-amd64`.
    pub release: String,
    /// 64-bit ELF kernel (with a PVH note where the kernel has one).
    pub vmlinux: PathBuf,
    /// The bzImage it came from, if it came from one.
    pub bzimage: Option<PathBuf>,
    /// Uncompressed newc archive: `/init`, `/modules/NN-name.ko` in load order, `/dev/console`, extra files.
    pub initramfs: PathBuf,
}

/// Prepares kernel and initramfs, from the cache where possible: then it takes a few milliseconds and touches
/// neither network nor lock.
///
/// # Errors
/// See [`crate::Error`]; each text names the remedy. After an error nothing half-made is in the cache.
pub fn prepare(request: Request<'_>) -> Result<GuestImage> {
    let Request { source, cache_dir, modules, init, files, progress } = request;
    let cache = Cache::new(cache_dir);
    let kernel = source::resolve(&source, &cache, progress)?;
    let name = initramfs_name(&kernel, modules, init, files)?;
    let mut initramfs = cache.entry(&name);
    if !initramfs.is_file() {
        progress.step(Step::PackingInitramfs { release: &kernel.release });
        let modules = match &kernel.modules {
            Some(folder) => ModuleFolder::open(folder, &kernel.release)?.load_order(modules)?,
            None => Vec::new(),
        };
        let bytes = initramfs_bytes(init, &modules, files)?;
        let writer = cache.writer()?;
        initramfs = writer.place_file(&name, &bytes)?;
        remove_old(&writer, &cache.entry(INITRAMFS));
    }
    Ok(GuestImage { release: kernel.release, vmlinux: kernel.vmlinux, bzimage: kernel.bzimage, initramfs })
}

/// Builds the archive. Public for those who bring their own kernel and cache.
///
/// # Errors
/// [`crate::Error::BadArchive`] when a name is not a plain relative path.
pub fn initramfs_bytes(init: &[u8], modules: &[Module], files: &[ExtraFile<'_>]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    let mut folders = Vec::new();
    for folder in ["dev", "modules"] {
        archive.directory(folder, 0o755)?;
        folders.push(folder);
    }
    // Without it PID 1 starts with no stdin, stdout and stderr at all.
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.file("init", 0o755, init)?;
    for (index, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{index:02}-{}.ko", module.name), 0o644, &module.bytes)?;
    }
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let folder = file.path.get(..end).unwrap_or_default();
            if !folders.contains(&folder) {
                archive.directory(folder, 0o755)?;
                folders.push(folder);
            }
        }
        archive.file(file.path, file.permissions, file.bytes)?;
    }
    archive.finish()
}

fn initramfs_name(kernel: &Kernel, modules: &[&str], init: &[u8], files: &[ExtraFile<'_>]) -> Result<String> {
    let folder = match &kernel.modules {
        Some(folder) => cache::identity(&folder.join("modules.order"))?,
        None => String::new(),
    };
    let mut parts = vec![LAYOUT, kernel.release.as_bytes(), folder.as_bytes(), init];
    parts.extend(modules.iter().map(|name| name.as_bytes()));
    parts.push(b"files");
    let permissions: Vec<[u8; 4]> = files.iter().map(|f| f.permissions.to_le_bytes()).collect();
    for (file, permissions) in files.iter().zip(&permissions) {
        parts.extend([file.path.as_bytes(), permissions.as_slice(), file.bytes]);
    }
    Ok(format!("{INITRAMFS}/{}.cpio", cache::digest(&parts)))
}

/// Every new agent build makes a new archive; without this the cache would only grow.
fn remove_old(_lock: &Writer<'_>, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > INITRAMFS_AGE_MAX) {
            let _ = fs::remove_file(entry.path()); // Garbage that stays is harmless.
        }
    }
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("modules", &self.modules)
            .finish_non_exhaustive()
    }
}
