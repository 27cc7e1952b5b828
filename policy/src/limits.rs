//! Every count and size this crate accepts. Sizes of facts bound what a guest can make us read; sizes of
//! the file only catch mistakes, since a policy is written by the user. No number of this kind stands elsewhere.

/// One policy file, bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rules of one rule set, all files together.
pub const RULES_MAX: usize = 100_000;
/// Hosts, networks, ports, methods or paths of one rule, each.
pub const LIST_ENTRIES_MAX: usize = 10_000;
/// A rule's id, bytes: it travels in response headers.
pub const ID_BYTES_MAX: usize = 64;
/// A rule's reason, bytes: it is shown to the guest.
pub const REASON_BYTES_MAX: usize = 512;
/// A credential's name, bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 128;
/// A host name, bytes, without trailing dot (RFC 1035 §2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// One label of a host name, bytes (RFC 1035 §2.3.4).
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// A request path, bytes. Longer ones are refused unread.
pub const PATH_BYTES_MAX: usize = 16 * 1024;
/// A path pattern, bytes. Times [`PATH_BYTES_MAX`], this bounds the work of one match.
pub const PATH_PATTERN_BYTES_MAX: usize = 256;
/// A query, bytes. Longer ones are not read: no allow rule with `query` matches them, every such deny rule does.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// A query key in a rule, bytes.
pub const QUERY_KEY_BYTES_MAX: usize = 128;
/// Layers of one rule set that are ceilings.
pub const CEILINGS_MAX: usize = 8;
/// Files that one layer includes, those that included ones include among them.
pub const INCLUDES_MAX: usize = 64;
/// How deep includes may stand in each other.
pub const INCLUDE_DEPTH_MAX: usize = 8;
/// Hosts that one package registry's configuration may name.
pub const REGISTRY_HOSTS_MAX: usize = 256;
/// What a person may allow for the life of one sandbox: each is looked at where no rule decides.
pub const GRANTS_MAX: usize = 256;
/// What [`crate::lint`] spends on comparing rules with each other, in comparisons of two hosts: about a second. Many
/// rules about one host would otherwise take time that is quadratic in their number.
pub const LINT_WORK_MAX: u64 = 10_000_000;
/// A request method, bytes. The longest registered with IANA has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// Labels that fit into a host name: the suffix index keeps one bit for each.
pub(crate) const HOST_LABELS_MAX: usize = 127;

const _: () = assert!(HOST_LABELS_MAX == HOST_NAME_BYTES_MAX.div_ceil(2));
const _: () = assert!(HOST_LABELS_MAX < 128);
const _: () = assert!(PATH_PATTERN_BYTES_MAX < PATH_BYTES_MAX);
