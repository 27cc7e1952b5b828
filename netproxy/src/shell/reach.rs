//! From an authority to an open stream: resolve once, judge every address, dial what was judged.

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::{DialError, dial};
use super::shared::Shared;
use super::upstream::failure;
use crate::audit::Layer;
use crate::authority::{Authority, Host};
use crate::guard::{Checked, GuardError};
use crate::hooks::{AddressFacts, ResolveError};
use crate::refuse::{Kind, Refusal};

/// Resolves, judges and dials.
pub async fn connect(shared: &Shared, authority: &Authority) -> Result<TcpStream, Box<Refusal>> {
    let checked = check(shared, authority).await?;
    let dialled = timeout(shared.limits.connect_timeout, dial(&checked, shared.limits.connect_attempt_delay));
    match dialled.await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(DialError::Unreachable)) => {
            Err(failure(Kind::Unreachable, "the upstream refuses the connection or has no route"))
        }
        Ok(Err(DialError::Timeout)) | Err(_) => {
            Err(failure(Kind::UpstreamTimeout, "the upstream does not accept the connection in time"))
        }
    }
}

async fn check(shared: &Shared, authority: &Authority) -> Result<Checked, Box<Refusal>> {
    let addresses = match authority.host() {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => timeout(shared.limits.resolve_timeout, shared.resolve.resolve(name))
            .await
            .unwrap_or(Err(ResolveError::Timeout))
            .map_err(resolve_failure)?,
    };
    let admits = |address, special| {
        let port = Some(authority.port());
        shared.authorize.address(&AddressFacts { host: authority.host(), port, address, special })
    };
    shared.guard.check(authority, &addresses, &admits).map_err(|error| guard_refusal(&error))
}

pub fn resolve_failure(error: ResolveError) -> Box<Refusal> {
    match error {
        ResolveError::Timeout => failure(Kind::NameTimeout, "the resolver did not answer in time"),
        ResolveError::NotFound => failure(Kind::NameNotFound, "the upstream's name does not exist"),
        ResolveError::Failed => failure(Kind::NameNotFound, "the resolver failed"),
    }
}

pub fn guard_refusal(error: &GuardError) -> Box<Refusal> {
    let kind = match error {
        GuardError::NoAddress => Kind::NameNotFound,
        GuardError::Denied { .. } => Kind::Policy,
        GuardError::Special { .. } | GuardError::OwnListener { .. } => Kind::SpecialAddress,
    };
    Box::new(Refusal::new(kind, Layer::Address, error.to_string()))
}
