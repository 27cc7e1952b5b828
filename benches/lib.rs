//! One bench per figure in `SPECIFICATION.md`: `cargo bench -p benches`, or `--bench decide` for one of them.
//!
//! | bench | measures |
//! |---|---|
//! | `decide` | one decision of `policy`, with few rules and with many hosts; loading 10,000 rules |
//! | `scrub` | bytes per second through `credvault`'s scrubber, without a hit and with one |
//! | `inject` | one request that gets its credential |
//! | `credentials` | a credential found again; a request signed anew |
//! | `whole` | what one allowed request costs beyond being forwarded |
//! | `wire` | parsers of `netproxy`: host and port, path, request head, TLS hello |
//! | `coding` | encoded bodies through `netproxy`'s decoders |
//! | `leaf` | the certificate for a host: found again, and minted |
//! | `frame` | frames of `guest-agent` |
//!
//! Against peers, each in a workspace of its own: `benches/proxy` (the proxy) and `benches/policy` (decisions).
