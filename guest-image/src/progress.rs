//! How a caller follows the slow first run. The library itself prints nothing.

use std::path::Path;

/// A step that takes long enough to be shown. Cached runs report none.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Package lists are being fetched into a folder of our own.
    UpdatingLists,
    /// A package is being downloaded.
    Downloading {
        /// Its name.
        package: &'a str,
    },
    /// A package is being unpacked.
    Unpacking {
        /// Its name.
        package: &'a str,
    },
    /// A compressed kernel is being unpacked to vmlinux.
    Extracting {
        /// The bzImage.
        kernel: &'a Path,
    },
    /// Modules are being packed with the agent.
    PackingInitramfs {
        /// Kernel release.
        release: &'a str,
    },
    /// The package could not be had; the host's own kernel is used instead.
    FallingBackToHost {
        /// Why, as a sentence.
        reason: &'a str,
    },
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::UpdatingLists => write!(f, "fetching package lists"),
            Step::Downloading { package } => write!(f, "downloading {package}"),
            Step::Unpacking { package } => write!(f, "unpacking {package}"),
            Step::Extracting { kernel } => {
                write!(f, "extracting vmlinux from {}", kernel.file_name().unwrap_or_default().display())
            }
            Step::PackingInitramfs { release } => write!(f, "packing the initramfs for {release}"),
            Step::FallingBackToHost { reason } => write!(f, "using the host's own kernel: {reason}"),
        }
    }
}

/// Receives each step as it begins. Closures implement it.
pub trait Progress {
    /// `step` begins now.
    fn step(&mut self, step: Step<'_>);
}

impl<F: FnMut(Step<'_>)> Progress for F {
    fn step(&mut self, step: Step<'_>) {
        self(step);
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _: Step<'_>) {}
}
