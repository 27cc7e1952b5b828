//! The kinds of refusals, and what each is in every language: one row of a table.

use http::StatusCode;

/// What kind of answer a refusal is. Each has its own `error` code, so that nobody has to guess whether the
/// policy, the request or the upstream is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The policy does not allow it.
    Policy,
    /// The name or literal leads to a loopback, private or otherwise special address.
    SpecialAddress,
    /// Not a request we forward: bad syntax, ambiguous framing, unknown form.
    Malformed,
    /// The head is too large.
    HeadTooLarge,
    /// CONNECT target, SNI and Host do not agree.
    AuthorityMismatch,
    /// Neither TLS nor HTTP inside a connection, and no rule allows other bytes.
    NotTls,
    /// The client does not trust the sandbox's certificate authority, so that it can be told nothing inside TLS.
    AuthorityNotTrusted,
    /// The credential of the rule does not exist.
    CredentialMissing,
    /// The credential store is locked.
    CredentialLocked,
    /// A credential or placeholder where it may not be.
    CredentialRefused,
    /// The audit log cannot be written.
    AuditUnavailable,
    /// As many client connections as may be are open.
    TooManyConnections,
    /// More requests in a second than may be.
    RateLimited,
    /// More new names below a wildcard in a minute than may be.
    TooManyNames,
    /// The body of the request is larger than it may be.
    BodyTooLarge,
    /// As many bodies as may be are held at once, to be signed.
    TooManyHeldBodies,
    /// The body is not what its head says: it cannot be signed or looked into.
    BodyRefused,
    /// The client stopped in the middle of the body.
    BodyTooQuiet,
    /// The body ended before its end.
    BodyBrokeOff,
    /// The upstream's name does not resolve.
    NameNotFound,
    /// The resolver did not answer.
    NameTimeout,
    /// The upstream refuses or drops the connection.
    Unreachable,
    /// The upstream does not answer in time.
    UpstreamTimeout,
    /// The upstream's certificate is not valid for its name.
    UpstreamCertificate,
    /// The upstream's TLS is broken in another way.
    UpstreamTls,
    /// The upstream's answer is not HTTP, or ends early.
    UpstreamProtocol,
    /// The upstream proxy that the rule names cannot be reached, refuses us or the destination, or does not exist.
    UpstreamProxy,
    /// The answer must be searched for secrets and is encoded in a way that cannot be.
    NotRedactable,
    /// The answer must be decoded to be searched, and the memory for that is in use.
    DecodingLimit,
}

pub(super) struct Row {
    pub(super) status: StatusCode,
    /// RFC 9209 §2.3 error type.
    pub(super) proxy_error: &'static str,
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) hint: &'static str,
    pub(super) retryable: bool,
}

impl Kind {
    #[rustfmt::skip]
    pub(super) fn row(self) -> Row {
        use StatusCode as S;
        let row = |status, proxy_error, code, title, hint, retryable| Row { status, proxy_error, code, title, hint, retryable };
        match self {
            Self::Policy => row(S::FORBIDDEN, "http_request_denied", "blocked_by_policy", "Blocked by the sandbox's network policy",
                "Do not retry and do not look for another route: every route has the same policy. If this access is needed, ask the user to allow it in the sandbox policy.", false),
            Self::SpecialAddress => row(S::FORBIDDEN, "destination_ip_prohibited", "address_prohibited", "The address is not a public one",
                "Do not retry. Loopback, private and link-local addresses, and those of the host machine and its networks, are closed unless the sandbox policy allows them by cidr; ask the user.", false),
            Self::Malformed => row(S::BAD_REQUEST, "http_request_error", "malformed_request", "The request is malformed",
                "Do not retry the same request. Send well-formed HTTP/1.1: an absolute http:// URL, or CONNECT host:port for TLS.", false),
            Self::HeadTooLarge => row(S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error", "request_head_too_large", "The request head is too large",
                "Send fewer or shorter headers, or a shorter URL.", false),
            Self::AuthorityMismatch => row(S::MISDIRECTED_REQUEST, "http_request_error", "authority_mismatch", "The request names two different hosts",
                "CONNECT target, TLS server name and Host header must be the same. Open a connection of its own for each host.", false),
            Self::NotTls => row(S::FORBIDDEN, "http_request_denied", "not_tls", "Only TLS and HTTP are allowed on this connection",
                "Use https or http. Other protocols pass only where a rule of the sandbox policy names host and port with tcp = true; ask the user.", false),
            Self::AuthorityNotTrusted => row(S::FORBIDDEN, "http_request_denied", "authority_not_trusted", "The client does not trust the sandbox's certificate authority",
                "Do not retry, and do not turn verification off. Give the client the file that SSL_CERT_FILE names: by NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE, CARGO_HTTP_CAINFO, its own option for roots, or for Java the trust store of JAVA_TOOL_OPTIONS.", false),
            Self::CredentialMissing => row(S::FORBIDDEN, "http_request_denied", "credential_missing", "The credential for this request does not exist",
                "Do not retry. Ask the user to store the credential on the host.", false),
            Self::CredentialLocked => row(S::FORBIDDEN, "http_request_denied", "credential_locked", "The credential store is locked",
                "Ask the user to unlock the keyring on the host, then try again.", false),
            Self::CredentialRefused => row(S::FORBIDDEN, "http_request_denied", "credential_refused", "The credential may not be used here",
                "Do not retry. Each placeholder works only with the host it was made for; ask the user.", false),
            Self::AuditUnavailable => row(S::SERVICE_UNAVAILABLE, "proxy_internal_error", "audit_unavailable", "The audit log cannot be written",
                "Nothing is forwarded unrecorded. Ask the user to make room for the audit log on the host.", false),
            Self::TooManyConnections => row(S::SERVICE_UNAVAILABLE, "connection_limit_reached", "too_many_connections", "Too many connections are open",
                "The sandbox has a limit on connections at once. Close idle ones, or run fewer programs side by side.", true),
            // Not 429, nor 503: clients repeat those at once and up to six times, which is what the limit is against.
            Self::RateLimited => row(S::FORBIDDEN, "http_request_denied", "rate_limited", "Too many requests in a second",
                "Wait before the next request, and send fewer of them. If more are needed, ask the user to raise the limit in the sandbox policy.", false),
            Self::TooManyNames => row(S::FORBIDDEN, "http_request_denied", "too_many_new_names", "Too many new names below a wildcard",
                "Wait a minute before you ask for names that you did not use yet; those that you used go on working. Names that are needed often can have a rule of their own in the sandbox policy; ask the user.", false),
            Self::BodyTooLarge => row(S::PAYLOAD_TOO_LARGE, "http_request_error", "request_body_too_large", "The request body is too large",
                "Do not retry the same request. The sandbox has a limit on what a request may carry; ask the user.", false),
            Self::TooManyHeldBodies => row(S::SERVICE_UNAVAILABLE, "connection_limit_reached", "too_many_held_bodies", "Too many request bodies are held at once",
                "Bodies that are signed or looked into wait here until they are whole. Send fewer of them side by side.", true),
            Self::BodyRefused => row(S::BAD_REQUEST, "http_request_error", "request_body_refused", "The request body is not what its head announces",
                "Do not retry the same request. The body must have the form that the request's head announces.", false),
            // Not 408: browsers and clients of AI services repeat that by themselves.
            Self::BodyTooQuiet => row(S::BAD_REQUEST, "http_request_error", "request_body_too_quiet", "The request body stopped",
                "The head of the request came, and of its body nothing more for too long. Send it without long pauses.", true),
            Self::BodyBrokeOff => row(S::BAD_REQUEST, "http_request_error", "request_body_broke_off", "The request body broke off",
                "The body ended before it was whole. Send as much as the request's head announces.", true),
            Self::NameNotFound => row(S::BAD_GATEWAY, "dns_error", "name_not_found", "The upstream's name does not resolve",
                "This host may be reached, but it has no address. Check the spelling.", false),
            Self::NameTimeout => row(S::GATEWAY_TIMEOUT, "dns_timeout", "name_timeout", "The resolver did not answer",
                "This host may be reached; the network of the host machine may be down. A later try may work.", true),
            Self::Unreachable => row(S::BAD_GATEWAY, "destination_unavailable", "upstream_unreachable", "The upstream cannot be reached",
                "This host may be reached, but it does not accept connections. A later try may work.", true),
            Self::UpstreamTimeout => row(S::GATEWAY_TIMEOUT, "connection_timeout", "upstream_timeout", "The upstream did not answer in time",
                "This host may be reached, but it does not answer. A later try may work.", true),
            Self::UpstreamCertificate => row(S::BAD_GATEWAY, "tls_certificate_error", "upstream_certificate", "The upstream's certificate is not valid",
                "Do not retry. The host machine does not trust who signed it; the user can have one more root trusted (`--upstream-ca`).", false),
            Self::UpstreamTls => row(S::BAD_GATEWAY, "tls_protocol_error", "upstream_tls", "The upstream's TLS handshake failed",
                "This host may be reached, but no TLS version or cipher is shared with it, or it does not speak TLS.", false),
            Self::UpstreamProtocol => row(S::BAD_GATEWAY, "http_protocol_error", "upstream_protocol", "The upstream's answer is not valid HTTP",
                "This host may be reached, but its answer broke off or is not HTTP/1.1.", true),
            Self::UpstreamProxy => row(S::BAD_GATEWAY, "destination_unavailable", "upstream_proxy", "The upstream proxy does not let the request through",
                "This host may be reached by way of an upstream proxy, and that one fails or refuses. Do not retry; ask the user to check it on the host.", false),
            Self::NotRedactable => row(S::BAD_GATEWAY, "http_response_transform_error", "response_not_redactable", "The upstream's answer cannot be searched for secrets",
                "The upstream sends gzip, deflate, br, zstd or plain bytes if it is asked to; this one sent a part or another coding. Ask the user whether this rule needs redaction.", false),
            Self::DecodingLimit => row(S::BAD_GATEWAY, "http_response_transform_error", "response_decoding_limit", "Too many encoded answers are open",
                "The upstream encoded its answer without being asked to, and there is no memory left to decode it. Read or close other answers first, then try again.", false),
        }
    }

    /// The `error` code in JSON answers and audit records.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// What stands beside the status in HTTP/1.1. Where a client hides the body of an error, this is all that a
    /// person sees: pip, requests, urllib3, aiohttp and npm show it.
    #[must_use]
    pub fn reason_phrase(self) -> &'static str {
        self.row().title
    }

    /// Whether we refused (and not the network, the upstream, or a client that did not finish).
    #[must_use]
    pub fn is_denial(self) -> bool {
        !self.status().is_server_error() && !matches!(self, Self::BodyTooQuiet | Self::BodyBrokeOff)
    }
}
