//! Turns a distribution's kernel package into what a microVM boots: vmlinux, modules in load order, initramfs.
//!
//! It fetches Debian's unmodified cloud kernel by package name through apt, without root and with package lists
//! of its own; extracts the ELF kernel from the bzImage; orders and unpacks the modules; packs them with an init
//! program. All results are cached and placed whole: a second call costs milliseconds and no network.
//!
//! It never installs anything, never prints, never runs what it unpacks, never leaves half-made files behind.
//!
//! ```text
//! KernelSource ── apt ──► .deb ──► kernels/linux-image-…/{boot,lib/modules}
//!              └─ host, file                │ bzImage                │ .ko.xz
//!                                           ▼                        ▼
//!                                  vmlinux (PVH ELF)     init + NN-name.ko ──► initramfs/….cpio
//! ```
//!
//! ```
//! use guest_image::{KernelSource, Request, Silent, prepare};
//!
//! # fn main() -> Result<(), guest_image::Error> {
//! # let cache = tempfile::tempdir().unwrap();
//! # let kernel = cache.path().join("vmlinux");
//! # std::fs::write(&kernel, b"\x7fELF\x02\x01").unwrap();
//! let image = prepare(Request {
//!     source: KernelSource::File { kernel, modules: None }, // or KernelSource::Debian(Series::V6_12)
//!     cache_dir: cache.path(),
//!     modules: guest_image::SANDBOX_MODULES,
//!     init: b"#!a static program",
//!     files: &[],
//!     progress: &mut Silent, // or a closure: &mut |step: Step| eprintln!("{step}")
//! })?;
//! assert!(image.initramfs.is_file());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

pub mod apt;
pub mod bzimage;
pub mod cache;
pub mod cpio;
pub mod decompress;
mod error;
mod image;
pub mod limits;
pub mod modinfo;
pub mod modules;
mod progress;
mod source;

pub use error::{Error, KernelDefect, Result};
pub use image::{ExtraFile, GuestImage, Request, initramfs_bytes, prepare};
pub use progress::{Progress, Silent, Step};
pub use source::{KernelSource, Series, minimal_kernel};

/// What a sandbox's guest loads, on Debian's 6.1 and 6.12 alike: what a kernel has built in is left out.
pub const SANDBOX_MODULES: &[&str] = &[
    "virtio_mmio",
    "vmw_vsock_virtio_transport",
    "virtio_console",
    "virtio_rng",
    "virtio_blk",
    "fuse",
    "virtiofs",
    "overlay",
];
