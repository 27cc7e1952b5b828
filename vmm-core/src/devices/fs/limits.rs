//! Every limit of the file server, in one place. The unit is the last word of each name.

/// Largest READ or WRITE payload, and what the guest is told as `max_write`, in bytes.
pub(super) const DATA_BYTES_MAX: u32 = 1 << 20;
/// The same in guest pages (FUSE 7.28 `max_pages`).
pub(super) const DATA_PAGES_MAX: u16 = 256;
/// Longest request other than WRITE, header included, in bytes. Longest legitimate ones: SYMLINK (name and
/// target) and BATCH_FORGET.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Most descriptors of one request; also below `IOV_MAX` (1024), so a request is one `preadv`.
pub(super) const DESCRIPTORS_MAX: usize = 1000;
/// Longest file name, in bytes (`NAME_MAX`).
pub(super) const NAME_BYTES_MAX: usize = 255;
/// Longest symbolic link target, in bytes (`PATH_MAX` without its NUL).
pub(super) const TARGET_BYTES_MAX: usize = 4095;
/// Deepest directory that is resolved again from its share's root, in path components.
pub(super) const DEPTH_MAX: usize = 2048;
/// Most inodes a guest may hold at once. Each costs the host about 200 bytes and no descriptor.
pub(super) const NODES_MAX: usize = 1 << 20;
/// Bounds of the number of files a guest may hold open; between them, half of the descriptor limit.
pub(super) const HANDLES_MIN: usize = 64;
/// See [`HANDLES_MIN`].
pub(super) const HANDLES_MAX: usize = 1 << 16;
/// Bounds of the number of directory descriptors kept for quick resolution; between them, a quarter of
/// the descriptor limit.
pub(super) const DIRECTORY_FDS_MIN: usize = 16;
/// See [`DIRECTORY_FDS_MIN`].
pub(super) const DIRECTORY_FDS_MAX: usize = 8192;
/// Longest stretch that one COPY_FILE_RANGE request moves; the guest asks again for the rest. In bytes.
pub(super) const COPY_BYTES_MAX: usize = 64 << 20;
/// Largest directory listing made by one request, in bytes.
pub(super) const LISTING_BYTES_MAX: usize = 64 << 10;
/// Requests served per kick before the event loop gets a turn (a guest must not hold the thread for ever).
pub(super) const REQUESTS_PER_TURN_MAX: usize = 1024;
/// Requests served before the guest hears about the finished ones.
pub(super) const REQUESTS_PER_SIGNAL_MAX: usize = 16;
/// Requests that the guest may have in flight in the background (readahead, asynchronous writes).
pub(super) const BACKGROUND_REQUESTS_MAX: u16 = 64;
/// Most shares of one device.
pub(super) const SHARES_MAX: usize = 256;
/// Deepest `at` of a share, in components.
pub(super) const AT_DEPTH_MAX: usize = 32;
/// Size of each virtqueue, in descriptors. A 1 MiB request takes 256 pages and a few more.
pub(super) const QUEUE_DESCRIPTORS_MAX: u16 = 1024;
/// How long a guest may trust names and attributes of a read-only share, in seconds.
pub(super) const READ_ONLY_VALID_SECONDS: u64 = 3600;
/// How long a guest may trust names and attributes of a writable share, in seconds.
pub(super) const WRITABLE_VALID_SECONDS: u64 = 1;
