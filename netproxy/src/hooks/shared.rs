//! A hook behind an `Arc` is a hook: it can be shared with whoever reloads or reads it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{
    AddressFacts, Ask, Audit, AuditUnavailable, Authorize, BoxFuture, ConnectFacts, Decided, Deny, Inject,
    InjectError, Injected, Miss, Redact, RequestFacts, RequestHead, Resolve, ResolveError, ResponseFilter,
    Verdict,
};
use crate::audit::Record;
use crate::authority::HostName;

impl<T: Authorize + ?Sized> Authorize for Arc<T> {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        (**self).connect(facts)
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        (**self).request(facts)
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        (**self).tcp(facts)
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        (**self).dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        (**self).address(facts)
    }
}

impl<T: Ask + ?Sized> Ask for Arc<T> {
    fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
        (**self).ask(miss, deny)
    }
}

impl<T: Inject + ?Sized> Inject for Arc<T> {
    fn reads_body(&self, decided: &Decided<'_>, head: &RequestHead) -> bool {
        (**self).reads_body(decided, head)
    }
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        (**self).inject(decided, head)
    }
}

impl<T: Redact + ?Sized> Redact for Arc<T> {
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        (**self).filter(decided)
    }
}

impl<T: Audit + ?Sized> Audit for Arc<T> {
    fn ready(&self) -> Result<(), AuditUnavailable> {
        (**self).ready()
    }
    fn record(&self, record: Record) {
        (**self).record(record);
    }
}

impl<T: Resolve + ?Sized> Resolve for Arc<T> {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        (**self).resolve(name)
    }
}
