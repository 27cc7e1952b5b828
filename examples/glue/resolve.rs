//! Fixed addresses for some names (`--resolve HOST:ADDR`), this machine's DNS for the rest.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use netproxy::hooks::{Resolve, StaticResolve};
use netproxy::{Host, SystemResolve};

/// `HOST:ADDR`; an IPv6 address needs no brackets, as HOST has no colon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolveSpec {
    /// The name.
    pub host: String,
    /// What it resolves to.
    pub address: IpAddr,
}

impl FromStr for ResolveSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, address) = text.split_once(':').ok_or("expected HOST:ADDR")?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse().map_err(|_| "ADDR is not an IP address")?;
        Ok(Self { host: host.to_owned(), address })
    }
}

/// The resolver of a proxy; to be called where its runtime is entered. While the machine has no DNS, only the fixed names
/// are known.
///
/// # Errors
/// One sentence about a name that is none.
pub fn resolver(fixed: &[ResolveSpec]) -> Result<StaticResolve, String> {
    let system: Arc<dyn Resolve> = Arc::new(SystemResolve::new());
    fixed.iter().try_fold(StaticResolve::over(system), |resolve, spec| match Host::parse(&spec.host) {
        Ok(Host::Name(name)) => Ok(resolve.with(name, spec.address)),
        Ok(Host::Ip(_)) => Err(format!("--resolve {}: an address needs no resolving", spec.host)),
        Err(error) => Err(format!("--resolve {}: {error}", spec.host)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert!(ResolveSpec::from_str("h.example:127.0.0.1").is_ok());
        assert!(ResolveSpec::from_str("h.example:[::1]").is_ok());
        assert!(ResolveSpec::from_str("h.example").is_err());
    }
}
