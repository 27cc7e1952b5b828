//! Where a kernel comes from: a Debian package in the cache or fetched into it, the host's own, a file.
//! The cached way does a directory listing and a few `stat`s, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{self, Apt};
use crate::bzimage::{self, Kind};
use crate::cache::{self, Cache, Writer};
use crate::error::{Error, KernelDefect, Result};
use crate::limits;
use crate::progress::{Progress, Step};

/// Debian's kernel series with a cloud flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Series {
    /// 6.1, of Debian 12.
    V6_1,
    /// 6.12, of Debian 13 and of Debian 12's security archive.
    #[default]
    V6_12,
}

impl Series {
    /// As in the package name.
    pub fn as_str(self) -> &'static str {
        match self {
            Series::V6_1 => "6.1",
            Series::V6_12 => "6.12",
        }
    }
}

/// Which kernel a guest boots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelSource {
    /// The newest signed `linux-image-SERIES.*-cloud-amd64` package. Where apt cannot give one, the host's own.
    Debian(Series),
    /// The kernel that this host runs, from `/boot` and `/lib/modules`.
    Host,
    /// A vmlinux or bzImage.
    File {
        /// The file.
        kernel: PathBuf,
        /// Its module folder, such as `/lib/modules/6.12.1`. Without one it is looked for next to a bzImage
        /// (`../lib/modules/RELEASE`) and in `/lib/modules`; when there is none either, all modules are taken
        /// to be built in.
        modules: Option<PathBuf>,
    },
}

/// A kernel that is ready on disk.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub release: String,
    pub vmlinux: PathBuf,
    pub bzimage: Option<PathBuf>,
    pub modules: Option<PathBuf>,
}

const PREFIX: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";
const KERNELS: &str = "kernels";

/// The newest kernel that `cargo xtask kernel` has put into the cache; everything is built into it, so use it
/// as [`KernelSource::File`] without modules.
pub fn minimal_kernel(cache_dir: &Path) -> Option<PathBuf> {
    let name = newest_entry(&Cache::new(cache_dir), "minimal-", "")?;
    Some(cache_dir.join(KERNELS).join(name).join("vmlinux"))
}

pub(crate) fn resolve(source: &KernelSource, cache: &Cache, progress: &mut dyn Progress) -> Result<Kernel> {
    match source {
        KernelSource::Debian(series) => debian(*series, cache, progress),
        KernelSource::Host => host(cache, progress),
        KernelSource::File { kernel, modules } => file(kernel, modules.as_deref(), cache, progress),
    }
}

fn debian(series: Series, cache: &Cache, progress: &mut dyn Progress) -> Result<Kernel> {
    let prefix = format!("{PREFIX}{}.", series.as_str());
    if let Some(name) = newest_entry(cache, &prefix, FLAVOUR) {
        return package(&cache.entry(KERNELS).join(name));
    }
    let apt = match fetch(&prefix, cache, progress) {
        Ok(kernel) => return Ok(kernel),
        // The host's own kernel would need that space too.
        Err(error @ (Error::NoSpace { .. } | Error::Io { .. })) => return Err(error),
        Err(error) => error,
    };
    progress.step(Step::FallingBackToHost { reason: &apt.to_string() });
    host(cache, progress).map_err(|host| Error::NoKernel { apt: Box::new(apt), host: Box::new(host) })
}

/// Downloads, unpacks and extracts in a scratch folder that gets its name when all is there.
fn fetch(prefix: &str, cache: &Cache, progress: &mut dyn Progress) -> Result<Kernel> {
    let writer = cache.writer()?;
    if let Some(name) = newest_entry(cache, prefix, FLAVOUR) {
        return package(&cache.entry(KERNELS).join(name)); // Another process was first.
    }
    writer.require_space(limits::FREE_BYTES_WANTED)?;
    let apt = Apt::new(&cache.entry("apt"))?;
    apt.update(progress)?;
    let name = apt.newest(prefix, FLAVOUR)?;
    let scratch = writer.scratch()?;
    let deb = apt.download(&name, scratch.path(), progress)?;
    progress.step(Step::Unpacking { package: &name });
    let root = scratch.path().join("root");
    apt.unpack(&deb, &root)?;
    let release = name.strip_prefix(PREFIX).unwrap_or(&name);
    let image = root.join("boot").join(format!("vmlinuz-{release}"));
    progress.step(Step::Extracting { kernel: &image });
    let vmlinux = root.join("vmlinux");
    fs::write(&vmlinux, extract(&image)?).map_err(|e| Error::io("write", &vmlinux, e))?;
    package(&writer.place_folder(&root, &format!("{KERNELS}/{name}"))?)
}

/// An unpacked package in the cache.
fn package(root: &Path) -> Result<Kernel> {
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
    let modules = ["lib/modules", "usr/lib/modules"].map(|folder| root.join(folder).join(&release));
    Ok(Kernel {
        vmlinux: root.join("vmlinux"),
        bzimage: Some(root.join("boot").join(format!("vmlinuz-{release}"))),
        modules: modules.into_iter().find(|folder| folder.is_dir()),
        release,
    })
}

fn host(cache: &Cache, progress: &mut dyn Progress) -> Result<Kernel> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let places = [
        PathBuf::from(format!("/boot/vmlinuz-{release}")),
        PathBuf::from(format!("/usr/lib/modules/{release}/vmlinuz")),
    ];
    let [first, second] = &places;
    let kernel = if second.exists() { second } else { first };
    file(kernel, Some(&Path::new("/lib/modules").join(&release)), cache, progress)
}

fn file(kernel: &Path, modules: Option<&Path>, cache: &Cache, progress: &mut dyn Progress) -> Result<Kernel> {
    let bad = |reason| Error::BadKernel { path: kernel.to_path_buf(), reason };
    let head = head(kernel)?;
    let (release, vmlinux, bzimage) =
        match bzimage::kind(&head).ok_or_else(|| bad(KernelDefect::UnknownFormat))? {
            Kind::Elf => (release_from_path(kernel), kernel.to_path_buf(), None),
            Kind::BzImage => {
                let release = bzimage::release(&head).unwrap_or_else(|| release_from_path(kernel));
                (release, extracted(kernel, cache, progress)?, Some(kernel.to_path_buf()))
            }
        };
    let modules = match modules {
        Some(folder) => Some(folder.to_path_buf()),
        None if bzimage.is_some() => modules_near(kernel, &release),
        None => None,
    };
    Ok(Kernel { release, vmlinux, bzimage, modules })
}

fn modules_near(kernel: &Path, release: &str) -> Option<PathBuf> {
    let beside = kernel.parent().and_then(Path::parent).map(|root| root.join("lib/modules"));
    let folders = beside.into_iter().chain([PathBuf::from("/lib/modules")]);
    folders.map(|folder| folder.join(release)).find(|folder| folder.join("modules.order").is_file())
}

/// The vmlinux of a bzImage outside the cache.
fn extracted(kernel: &Path, cache: &Cache, progress: &mut dyn Progress) -> Result<PathBuf> {
    let name = format!("{KERNELS}/vmlinux-{}", cache::digest(&[cache::identity(kernel)?.as_bytes()]));
    let entry = cache.entry(&name);
    if entry.is_file() {
        return Ok(entry);
    }
    progress.step(Step::Extracting { kernel });
    let bytes = extract(kernel)?;
    let writer: Writer<'_> = cache.writer()?;
    writer.place_file(&name, &bytes)
}

fn extract(image: &Path) -> Result<Vec<u8>> {
    let bytes = cache::read_bounded(image, limits::KERNEL_FILE_BYTES_MAX)?;
    bzimage::vmlinux(&bytes).map_err(|reason| Error::BadKernel { path: image.to_path_buf(), reason })
}

/// Enough of a kernel file for its format and, in a bzImage, its release.
fn head(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
    file.take(64 << 10).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

/// An ELF kernel does not say its release where it is cheap to find: `…/minimal-6.12.1/vmlinux` → that name.
fn release_from_path(kernel: &Path) -> String {
    let folder = kernel.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    match folder.strip_prefix(PREFIX).or_else(|| folder.starts_with("minimal-").then_some(&*folder)) {
        Some(release) => release.to_owned(),
        None => name.into_owned(),
    }
}

fn newest_entry(cache: &Cache, prefix: &str, suffix: &str) -> Option<String> {
    let folder = cache.entry(KERNELS);
    let names = fs::read_dir(&folder).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok());
    names
        .filter(|n| n.starts_with(prefix) && n.ends_with(suffix) && folder.join(n).join("vmlinux").is_file())
        .max_by_key(|name| apt::version_key(name))
}

#[cfg(test)]
mod tests;
