//! Who decides, at once from what is known or by asking somebody.

use super::{AddressFacts, BoxFuture, ConnectFacts, Deny, Miss, RequestFacts, Verdict};
use crate::authority::HostName;

/// Decides. Called before any name is resolved and any address dialled.
pub trait Authorize: Send + Sync {
    /// May a connection to this authority be opened? Each request inside is asked again, if inspected.
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict;
    /// May this request be sent?
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict;
    /// May bytes that are neither TLS nor HTTP pass, unread, in both directions? Asked when a connection turns out
    /// to carry such bytes, or none until the server speaks. By default they may not.
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        Deny::unmatched(format!("no rule allows other protocols to {}", facts.authority)).into()
    }
    /// May this name be resolved for the guest? Also asked before a name is looked up for a connection that was
    /// allowed, only for [`Allow::wildcard`](super::Allow::wildcard): the limits on such names hold there as well.
    fn dns_name(&self, name: &HostName) -> Verdict;
    /// May this address, to which an allowed name leads, be dialled? By default a public one may and a
    /// special one (loopback, private, this machine's own, …) may not.
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special
    }
}

/// The floor: refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl DenyAll {
    fn verdict() -> Verdict {
        Deny::unmatched("no policy is loaded, so nothing is allowed").into()
    }
}

impl Authorize for DenyAll {
    fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
        Self::verdict()
    }
    fn request(&self, _: &RequestFacts<'_>) -> Verdict {
        Self::verdict()
    }
    fn dns_name(&self, _: &HostName) -> Verdict {
        Self::verdict()
    }
}

/// Asks somebody about what no rule decides, while the request waits. [`Authorize`] stays a quick answer from what is
/// known; this may take as long as a person does. It is never asked about a connection as such: whoever wants to be
/// asked about what is inside lets [`Authorize::connect`] allow it, inspected; nothing is dialled for that.
pub trait Ask: Send + Sync {
    /// The verdict that replaces `deny`; `deny` itself where nobody says otherwise. Must end within a time of its own:
    /// a request waits, and with it a place among the client connections. Dropped if the client goes.
    fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict>;
}

/// Refusals stay what they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskNobody;

impl Ask for AskNobody {
    fn ask<'a>(&'a self, _: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
        Box::pin(std::future::ready(deny.into()))
    }
}
