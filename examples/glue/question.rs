//! What a person asks about, and what an audit log tells of, as facts for `policy`. Host, port and path are made
//! canonical by the code of `netproxy` that does so for requests: what is answered here is what would be enforced.

use netproxy::wire::target::Target;
use netproxy::{Authority, Host};
use policy::{Facts, Scheme};

/// One attempt, canonical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// A name is to be resolved.
    Dns(Host),
    /// A tunnel is to be opened.
    Connect(Authority),
    /// Raw bytes.
    Tcp(Authority),
    /// One request.
    Http {
        /// A WebSocket's where the request opens one.
        scheme: Scheme,
        /// Host and port.
        authority: Authority,
        /// As sent: not judged here.
        method: String,
        /// Canonical.
        path: String,
        /// Without its `?`; `None` where nobody knows it.
        query: Option<String>,
    },
}

impl Question {
    /// `METHOD URL`, `CONNECT HOST:PORT`, `TCP HOST:PORT` or `DNS NAME`. What follows a `#` is never sent.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the URL.
    pub fn parse(method: &str, target: &str) -> Result<Self, String> {
        let unusable = |error: &dyn std::fmt::Display| format!("{target:?} cannot be asked about: {error}");
        let authority = || Authority::parse(target, None).map_err(|error| unusable(&error));
        match method {
            "CONNECT" => Ok(Self::Connect(authority()?)),
            "TCP" => Ok(Self::Tcp(authority()?)),
            "DNS" => match Host::parse(target).map_err(|error| unusable(&error))? {
                Host::Ip(_) => Err(unusable(&"an address is not looked up; write a name")),
                name @ Host::Name(_) => Ok(Self::Dns(name)),
            },
            _ => Self::request(method, target.split('#').next().unwrap_or_default(), &unusable),
        }
    }

    fn request(
        method: &str,
        url: &str,
        unusable: &dyn Fn(&dyn std::fmt::Display) -> String,
    ) -> Result<Self, String> {
        let form = "write https://, http://, wss:// or ws:// and a host";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unusable(&form))?;
        let (scheme, below) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (Scheme::Https, "https"),
            "http" => (Scheme::Http, "http"),
            "wss" => (Scheme::Wss, "https"),
            "ws" => (Scheme::Ws, "http"),
            _ => return Err(unusable(&form)),
        };
        let target = Target::parse(&format!("{below}://{rest}")).map_err(|error| unusable(&error))?;
        let (_, authority) = target.absolute.ok_or_else(|| unusable(&form))?;
        let path = target.path.as_str().to_owned();
        let query = Some(target.query.unwrap_or_default());
        Ok(Self::Http { scheme, authority, method: method.to_owned(), path, query })
    }

    /// Host and port, where there is a port.
    #[must_use]
    pub fn host(&self) -> &Host {
        match self {
            Self::Dns(host) => host,
            Self::Connect(authority) | Self::Tcp(authority) | Self::Http { authority, .. } => {
                authority.host()
            }
        }
    }

    /// What `policy` is asked; without a time.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        match self {
            Self::Dns(Host::Name(name)) => Facts::dns(name.as_str()),
            Self::Dns(Host::Ip(ip)) => Facts::connect(policy::Host::Ip(*ip), 0),
            Self::Connect(authority) => Facts::connect(host(authority), authority.port()),
            Self::Tcp(authority) => Facts::tcp(host(authority), authority.port()),
            Self::Http { scheme, authority, method, path, query } => {
                let facts = Facts::http(*scheme, host(authority), authority.port(), method, path);
                query.as_deref().map_or(facts, |query| facts.with_query(query))
            }
        }
    }
}

fn host(authority: &Authority) -> policy::Host<'_> {
    match authority.host() {
        Host::Name(name) => policy::Host::Name(name.as_str()),
        Host::Ip(ip) => policy::Host::Ip(*ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_what_the_proxy_would_judge() {
        for (method, url, expected) in [
            ("GET", "https://API.Example.com/v1/%7Ea?q=1#top", "GET https://api.example.com/v1/~a?…"),
            ("GET", "https://bücher.example", "GET https://xn--bcher-kva.example/"),
            ("POST", "HTTP://a.test:8080/x", "POST http://a.test:8080/x"),
            ("GET", "wss://a.test/s", "GET wss://a.test/s"),
            ("GET", "https://[::ffff:10.0.0.1]/", "GET https://10.0.0.1/"),
            ("CONNECT", "A.test.:443", "CONNECT a.test:443"),
            ("TCP", "db.test:5432", "TCP db.test:5432"),
            ("DNS", "A.Test", "DNS a.test"),
        ] {
            let question = Question::parse(method, url).unwrap();
            assert_eq!(question.facts().to_string(), expected, "{url}");
            assert_eq!(question.facts().check(), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_the_proxy_would_refuse_unread_is_said() {
        for (method, url) in [
            ("GET", "a.test"),
            ("GET", "ftp://a.test/"),
            ("GET", "https://a.test/../x"),
            ("GET", "https://user@a.test/"),
            ("GET", "https://0x7f.1/"),
            ("CONNECT", "a.test"),
            ("DNS", "10.0.0.1"),
        ] {
            let error = Question::parse(method, url).unwrap_err();
            assert!(error.contains(url), "{error}");
        }
        // As on the wire: judged, and refused by the policy.
        let question = Question::parse("get", "https://a.test/").unwrap();
        assert_eq!(question.facts().check(), Err(policy::Fault::Method));
    }
}
