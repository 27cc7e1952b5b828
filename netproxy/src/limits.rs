//! Every count, size and time this crate bounds, in one place, unit last. Constants are limits of the
//! protocols and of the parsers; [`Limits`] are the ones an embedder may change. Nothing here is larger
//! or smaller under test than in a release.

use std::time::Duration;

/// Longest host name without its trailing dot, in bytes (RFC 1035 §2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// Longest label of a host name, in bytes (RFC 1035 §2.3.4).
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// Longest `host:port` text that is looked at at all, in bytes: U-labels are longer than what they map to.
pub const AUTHORITY_TEXT_BYTES_MAX: usize = 1024;
/// Most header fields in one request head.
pub const HEADER_FIELDS_MAX: usize = 100;
/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Longest method, in bytes. The longest registered one has 18.
pub const METHOD_BYTES_MAX: usize = 32;
/// Longest first line of a connection that is waited for to see whether it is HTTP, in bytes.
pub const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + METHOD_BYTES_MAX + 16;
/// Clients above the limit on connections that are told so at one time; further ones are closed unheard.
pub const TURNED_AWAY_MAX: usize = 64;
/// Rules whose limits are kept track of.
pub const LIMITED_RULES_MAX: usize = 16 * 1024;
/// Longest `TCP1 host:port` line before a transparent connection, its line feed included, in bytes.
pub const PREFACE_BYTES_MAX: usize = 300;
/// Largest head of an upstream proxy's answer to `CONNECT`, in bytes.
pub const UPSTREAM_PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most answers of an upstream proxy to one `CONNECT`, the interim ones (1xx) included.
pub const UPSTREAM_PROXY_INTERIM_MAX: usize = 4;
/// Ports on which TLS or HTTP is the custom: a refused connection to one of them is accepted and refused inside,
/// in words that clients show. Elsewhere the client learns of the refusal before its first byte.
pub const WEB_PORTS: [u16; 10] = [80, 443, 3000, 5000, 8000, 8008, 8080, 8443, 8888, 9443];
/// Longest line that opens a chunk, extensions included, in bytes.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Largest single chunk, in bytes (1 TiB): far above use, far below an overflow.
pub const CHUNK_BYTES_MAX: u64 = 1 << 40;
/// Longest trailer section, in bytes.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Largest TLS `ClientHello`, in bytes, over all its records.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;
/// Largest DNS query, in bytes.
pub const DNS_QUERY_BYTES_MAX: usize = 1232;
/// DNS queries answered at once, over all clients; more wait.
pub const DNS_QUERIES_MAX: usize = 64;
/// DNS streams open at once; one more is closed. The guest's agent opens one for each of 64 questions over UDP and for
/// each of 32 TCP connections.
pub const DNS_STREAMS_MAX: usize = 128;
/// Longest wait on a DNS stream for a whole query, and for a client to take its answer (RFC 7766 §6.2.3: a few seconds).
pub const DNS_STREAM_IDLE: Duration = Duration::from_secs(5);
/// Largest UDP answer to a client that says nothing about its size (RFC 1035 §4.2.1), in bytes.
pub const DNS_UDP_BYTES_MAX: u16 = 512;
/// Names whose addresses are kept for DNS answers.
pub const DNS_CACHE_NAMES_MAX: usize = 1024;
/// Longest time that a missing name is believed to be missing, in seconds.
pub const DNS_NEGATIVE_TTL_S_MAX: u32 = 5;
/// Names that have a synthetic address at one time.
pub const SYNTHETIC_NAMES_MAX: usize = 4096;
/// How long the end waits for records, at most.
pub const END_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for them.
pub const END_LOOK_EVERY: Duration = Duration::from_millis(1);
/// Between two looks at an audit log that could not take a record.
pub const AUDIT_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest name below a wildcard that is looked up, in bytes.
pub const DNS_WILDCARD_NAME_BYTES_MAX: usize = 100;
/// Longest label of such a name, in bytes: a SHA-1 in hexadecimal has 40.
pub const DNS_WILDCARD_LABEL_BYTES_MAX: usize = 40;
/// Most information in one label of such a name, in bits (see [`crate::dns::covert`]). A UUID has about 130.
pub const DNS_WILDCARD_LABEL_BITS_MAX: f64 = 160.0;
/// Names below wildcards that are remembered as not new.
pub const DNS_NAMES_SEEN_MAX: usize = 4096;
/// Rules with a wildcard whose budgets are kept apart.
pub const DNS_WILDCARD_RULES_MAX: usize = 1024;
/// Longest rule id in the extra text of a DNS refusal, in bytes: all must fit into 512.
pub const DNS_RULE_BYTES_MAX: usize = 64;
/// How old the knowledge of this machine's own addresses, and of its resolver's files, may be.
pub const LOCAL_NETWORK_AGE: Duration = Duration::from_secs(5);
/// Most addresses taken over from one answer of the resolver.
pub const ADDRESSES_MAX: usize = 16;
/// Longest text from a hook (reason, hint, rule) that reaches an answer, in bytes.
pub const HOOK_TEXT_BYTES_MAX: usize = 512;
/// How long a client that ended its TLS handshake because it does not trust the sandbox's authority is remembered: the
/// next `CONNECT` to the same host within that time is told so in the clear, once for each such alert.
pub const DISTRUST_REMEMBERED: Duration = Duration::from_secs(60);
/// Such alerts that are remembered at one time; the oldest go first.
pub const DISTRUST_ALERTS_MAX: usize = 64;
/// The same for one host: so many clients that do trust the authority may be told so by mistake.
pub const DISTRUST_ALERTS_PER_HOST_MAX: usize = 4;
/// Leaf certificates kept; the oldest go first.
pub const LEAF_CACHE_ENTRIES_MAX: usize = 512;
/// Idle upstream connections kept for one sandbox.
pub const UPSTREAMS_IDLE_MAX: usize = 64;
/// Longest that an upstream connection is kept between two requests.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(30);
/// Bytes that an upstream may send over HTTP/1.1 before the head of its answer is read (2 MiB): interim answers (1xx),
/// that head, and what of the body comes with it.
pub const HTTP1_UNANSWERED_BYTES_MAX: u64 = 2 << 20;
/// Pieces of a body below this (1 KiB) are counted, where they go out over HTTP/2.
pub const HTTP2_SMALL_FRAME_BYTES: usize = 1024;
/// So many of them wait on one stream at most: what is kept for each is more than its bytes.
pub const HTTP2_SMALL_FRAMES_MAX: usize = 64;
/// Pieces of a body below this (4 KiB) are copied, where they go out over HTTP/2: each would keep the memory of all that was
/// read with it.
pub const HTTP2_COPIED_BYTES: usize = 4096;
/// Bytes that are held of one message over HTTP/1.1, in each direction (64 KiB, or [`Limits::header_bytes_max`] where that is
/// more): the longest head of an answer, about what of a body waits for a slow reader, and what one read of an answer takes at
/// most. More is slower: what is read is still in the processor's cache when it is written.
pub const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that wait, encrypted, for a slow client (128 KiB): what one write to it takes.
pub const TLS_SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Most bytes that a tunnel reads at once.
pub const TUNNEL_READ_BYTES: usize = 16 * 1024;
/// Read buffers that a thread keeps while no tunnel holds them.
pub const TUNNEL_SPARE_BUFFERS: usize = 4;
/// Bytes read from a client after its last answer (64 MiB), so that the answer is not lost to a reset: some
/// clients send their whole body before they read.
pub const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most of them that are read at once.
pub const LINGER_READ_BYTES: usize = 16 * 1024;

/// Most streams open at once on one HTTP/2 connection, on either side (RFC 9113 §6.5.2): also the most HTTP/1.1
/// connections that one client connection has open towards an upstream without HTTP/2.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// Bytes that one HTTP/2 stream may send before they are consumed.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that all streams of one HTTP/2 connection may send before they are consumed.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one HTTP/2 stream that wait to be written to a peer that does not read.
pub const HTTP2_SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Streams that a peer may open and reset before they were looked at (CVE-2023-44487).
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we reset because of the peer's errors before the connection ends (CVE-2025-8671).
pub const HTTP2_LOCAL_RESETS_MAX: usize = 100;
/// Streams that we open before an upstream has said how many it takes (RFC 9113 §6.5.2 recommends no fewer).
pub const HTTP2_STREAMS_BEFORE_SETTINGS: usize = 100;
/// Tasks that wait for the next streams of their HTTP/2 client connections, over all of these, whichever was first: each has
/// 7 KiB. Where no more may wait, a stream costs a task of its own.
pub const HTTP2_TASKS_WAITING_MAX: usize = 128;
/// Interim answers (1xx) that an upstream may send before the answer: each is held until it is looked at.
pub const HTTP2_INTERIM_ANSWERS_MAX: usize = 16;
/// How long an upstream may take to hear that its connection ends, once the client's has ended.
pub const HTTP2_FAREWELL: Duration = Duration::from_secs(1);

/// Codings of one answer that are undone, one after the other.
pub const CODINGS_MAX: usize = 2;
/// Memory for decoding answers, over all connections of one proxy, in bytes (64 MiB). An answer that may need more
/// than is left is not asked for in that coding, and refused if it comes in it all the same.
pub const CODING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most of a decoded body that is given out at once, in bytes.
pub const CODING_PIECE_BYTES: usize = 16 * 1024;
/// How many times larger than the encoded body a decoded one may be. DEFLATE alone reaches 1,032.
pub const CODING_RATIO_MAX: u64 = 1100;
/// Bytes of a decoded body to which that does not apply (8 MiB).
pub const CODING_RATIO_FREE_BYTES: u64 = 8 * 1024 * 1024;
/// The same of what lies between two codings, unless it is half of what is decoded of it: a body that is encoded already
/// hardly shrinks once more, one that is only stored there does.
pub const CODING_MIDDLE_RATIO_MAX: u64 = 16;
/// Bytes between two codings to which that does not apply (256 KiB).
pub const CODING_MIDDLE_FREE_BYTES: u64 = 256 * 1024;
/// Steps of decoding before others have their turn. One step gives something, or takes at most a piece.
pub const CODING_STEPS_MAX: usize = 256;
/// Bytes of an encoded body in a row that may decode to nothing (1 MiB): headers, empty members, metadata.
pub const CODING_BARREN_BYTES_MAX: u64 = 1024 * 1024;
/// Memory for `gzip` or `deflate`, in bytes: a window of 32 KiB, tables, and a piece of the output.
pub const INFLATE_BYTES_MAX: usize = 96 * 1024;
/// Largest window of `br`, in bytes (RFC 7932 §9.1: 24 bits).
pub const BROTLI_WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Memory for `br` besides its window, in bytes: three groups of up to 256 prefix codes with up to 1,080 entries of
/// 4 bytes, one of which may be growing, and context maps.
pub const BROTLI_STATE_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Largest window of `zstd`, in bytes (RFC 9659 §3).
pub const ZSTD_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory for `zstd` besides its window, in bytes: tables, and blocks of 128 KiB in and out.
pub const ZSTD_STATE_BYTES_MAX: usize = 1024 * 1024;

/// What an embedder may tune. Each field has a default that suits one coding agent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Client connections open at once, of all kinds but DNS (see [`DNS_STREAMS_MAX`]); a client above it is answered
    /// 503. Default 2,048.
    pub client_connections_max: usize,
    /// Requests under way at once, over all connections and both versions of HTTP, each until its answer is sent; above
    /// it the answer is 503. The head of each may have [`Limits::header_bytes_max`]. Tunnels and WebSockets that are
    /// open are connections, and no requests. Default 1,024.
    pub requests_at_once_max: usize,
    /// Requests in a second, over all connections; a second's worth may come at once. Default: no limit.
    pub requests_per_s: Option<u32>,
    /// Bytes in a second, each way, over all client connections as they are on the wire: traffic above it is slowed
    /// down, never dropped. Default: no limit.
    pub bytes_per_s: Option<u64>,
    /// Largest request body, in bytes; above it the answer is 413. Default: no limit.
    pub request_body_bytes_max: Option<u64>,
    /// Largest request body that is held whole because [`crate::hooks::Inject::reads_body`] asks for it, in bytes;
    /// above it the answer is 413. Default 24 MiB: what model and database APIs take at most.
    pub held_body_bytes_max: u64,
    /// Bytes of request bodies that are held at once, over all requests; above it the answer is 503. Default 64 MiB.
    pub held_bytes_max: usize,
    /// Largest request head, in bytes; above it the answer is 431. Default 64 KiB. The head of an upstream's answer may have
    /// as many (over HTTP/2 as RFC 9113 §6.5.2 counts them), and over HTTP/1.1 64 KiB in any case; above it the answer is 502.
    pub header_bytes_max: usize,
    /// Longest wait for a whole request head, or between two requests. Default 60 s.
    pub header_timeout: Duration,
    /// Longest wait for a `ClientHello` after `CONNECT`, and for the handshake after it. Default 60 s: a client
    /// loads its trust store between the two, and twenty at once on one emulated processor took over 20 s.
    pub client_tls_timeout: Duration,
    /// Silence of a client after which, where a rule allows raw bytes, the server is dialled and may speak first.
    /// Default 250 ms. A client that speaks before the server does is still looked at.
    pub silent_client_wait: Duration,
    /// Longest wait for one upstream to accept a connection and finish its TLS handshake. Default 15 s.
    pub connect_timeout: Duration,
    /// Between the starts of attempts at two addresses of one upstream (RFC 8305 §8). Default 250 ms.
    pub connect_attempt_delay: Duration,
    /// Longest wait, after an HTTP/2 upstream has refused a request, for its upload to end, so that it can be sent again. Default
    /// 3 s.
    pub connect_attempt_timeout: Duration,
    /// Longest wait for a name to resolve. Default 5 s.
    pub resolve_timeout: Duration,
    /// Longest wait for the head of a response, after the request was sent. Default 10 min: models think.
    pub response_timeout: Duration,
    /// Longest silence inside a body or a tunnel, and longest wait for a client that takes nothing of what it is sent.
    /// Default 10 min.
    pub idle_timeout: Duration,
    /// Longest lingering on a connection after the last answer. Default 5 s.
    pub linger_timeout: Duration,
    /// Longest wait for an audit log that cannot take a record just now; then the answer is 503. Default 0: refused at
    /// once. What waits holds its connection, counts among the sandbox's, and is decided again; DNS does not wait.
    pub audit_wait: Duration,
    /// Lifetime of a DNS answer, in seconds. Default 30: the policy may change.
    pub dns_ttl_s: u32,
    /// New names below one rule's wildcards that are looked up in a minute, for DNS and for connections together.
    /// Default 60.
    pub dns_new_names_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_connections_max: 2048,
            requests_at_once_max: 1024,
            requests_per_s: None,
            bytes_per_s: None,
            request_body_bytes_max: None,
            held_body_bytes_max: 24 * 1024 * 1024,
            held_bytes_max: 64 * 1024 * 1024,
            header_bytes_max: 64 * 1024,
            header_timeout: Duration::from_secs(60),
            client_tls_timeout: Duration::from_secs(60),
            silent_client_wait: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(15),
            connect_attempt_delay: Duration::from_millis(250),
            connect_attempt_timeout: Duration::from_secs(3),
            resolve_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(600),
            linger_timeout: Duration::from_secs(5),
            audit_wait: Duration::ZERO,
            dns_ttl_s: 30,
            dns_new_names_per_minute: 60,
        }
    }
}

/// Limits of one rule, on top of those of the sandbox. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleLimits {
    /// Requests in a second that the rule allows; a second's worth may come at once.
    pub requests_per_s: Option<u32>,
    /// Largest request body, in bytes.
    pub request_body_bytes: Option<u64>,
    /// Connections to one place (`CONNECT`, SOCKS, transparent) that the rule lets be open at once.
    pub connections: Option<u32>,
}

const _: () = assert!(HOST_LABEL_BYTES_MAX < HOST_NAME_BYTES_MAX);
const _: () = assert!(HOST_NAME_BYTES_MAX + 16 < PREFACE_BYTES_MAX);
const _: () = assert!(HOST_NAME_BYTES_MAX < AUTHORITY_TEXT_BYTES_MAX);
const _: () = assert!(BROTLI_WINDOW_BYTES_MAX + BROTLI_STATE_BYTES_MAX < CODING_BYTES_MAX);
const _: () = assert!(ZSTD_WINDOW_BYTES_MAX.is_power_of_two());
