//! Every count and size that bounds what this crate reads or writes. Unit last in each name.

/// Largest kernel file read, in bytes. Debian's are 12 MiB (bzImage) to 60 MiB (vmlinux).
pub const KERNEL_FILE_BYTES_MAX: u64 = 512 << 20;
/// Largest kernel after decompression, in bytes.
pub const VMLINUX_BYTES_MAX: usize = 512 << 20;
/// Largest module after decompression, in bytes. Debian's largest is below 8 MiB.
pub const MODULE_BYTES_MAX: usize = 64 << 20;
/// Most modules in one initramfs, dependencies included: the names are numbered with two digits.
pub const MODULES_MAX: usize = 100;
/// Longest name of a module or path in an archive, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Largest `modules.order` or `modules.builtin`, in bytes. Debian's are below 100 KiB.
pub const MODULE_INDEX_BYTES_MAX: u64 = 8 << 20;
/// Largest window a zstd frame may ask for, in bytes. The kernel is packed with 128 MiB (`--ultra -22`).
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 256 << 20;
/// Memory limit of the xz decoder, in KiB. The kernel's dictionary is at most 32 MiB.
pub const XZ_MEMORY_KIB_MAX: u32 = 128 << 10;
/// Free space wanted before a kernel package is downloaded and unpacked, in bytes. Debian's cloud kernel
/// needs 34 MiB for the package, 55 MiB unpacked, 60 MiB for vmlinux, 30 MiB for package lists.
pub const FREE_BYTES_WANTED: u64 = 256 << 20;
/// Below this much free space, in bytes, a failed child process is reported as a full disk.
pub const FREE_BYTES_FULL: u64 = 16 << 20;
/// Age after which package lists are fetched again before a package is looked up, in seconds.
pub const PACKAGE_LIST_AGE_SECONDS_MAX: u64 = 3600;
/// How much of a failed program's error output goes into our error text, in bytes.
pub const CHILD_ERROR_BYTES_MAX: usize = 600;
