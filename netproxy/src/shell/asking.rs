//! The verdict of [`Authorize`](crate::hooks::Authorize), or that of whoever may be asked about a refusal.

use super::shared::Shared;
use crate::authority::HostName;
use crate::hooks::{Allow, ConnectFacts, Miss, RequestFacts, Verdict};

impl Shared {
    pub async fn may_request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.or_ask(self.authorize.request(facts), Miss::Request(*facts)).await
    }

    pub async fn may_tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.or_ask(self.authorize.tcp(facts), Miss::Tcp(*facts)).await
    }

    pub async fn may_resolve(&self, name: &HostName) -> Verdict {
        self.or_ask(self.authorize.dns_name(name), Miss::Name(name)).await
    }

    async fn or_ask(&self, verdict: Verdict, miss: Miss<'_>) -> Verdict {
        match verdict {
            Verdict::Deny(deny) if deny.may_ask => match self.ask.ask(miss, deny).await {
                Verdict::Allow(allow) => Allow { asked: true, ..allow }.into(),
                verdict => verdict,
            },
            verdict => verdict,
        }
    }
}

/// Whether what `allow` has opened may stay open under the `verdict` that the rules give now. What somebody answered
/// holds until a rule forbids it.
pub fn still_holds(allow: &Allow, verdict: &Verdict) -> bool {
    match verdict {
        // Another way there is another connection, and so is one with another key.
        Verdict::Allow(now) => now.upstream == allow.upstream && now.credential == allow.credential,
        Verdict::Deny(deny) => allow.asked && deny.may_ask,
    }
}
