//! How two rules stand to each other.

use crate::facts::Scheme;
use crate::pattern::{HostPattern, PathPattern, QueryKeys};
use crate::rule::{Compiled, SchemeSet};
use crate::verdict::Effect;

/// Whether `one` matches whatever `other` matches. Never wrongly yes.
pub(super) fn covers(one: &Compiled, other: &Compiled) -> bool {
    let raw_only = other.schemes == SchemeSet::NONE.with(Scheme::Tcp);
    // Of raw bytes neither method nor path will be known, so a rule that denies by these denies them all.
    let conditions = (one.effect == Effect::Deny && raw_only)
        || (methods(one, other) && paths(one, other) && query(one, other));
    target(one, other)
        && one.ports.covers(&other.ports)
        && other.schemes.and(one.schemes) == other.schemes
        && conditions
        && one.expires.is_none_or(|end| other.expires.is_some_and(|earlier| earlier <= end))
}

/// Whether some request may be matched by both. Never wrongly no.
pub(super) fn may_overlap(one: &Compiled, other: &Compiled) -> bool {
    let hosts = one.hosts.iter().any(|host| other.hosts.iter().any(|theirs| host.overlaps(theirs)));
    let networks = one.cidrs.iter().any(|cidr| other.cidrs.iter().any(|theirs| cidr.overlaps(theirs)));
    (hosts || networks)
        && one.ports.overlaps(&other.ports)
        && one.schemes.and(other.schemes) != SchemeSet::NONE
        && both(one.methods.as_deref(), other.methods.as_deref(), |one, other| {
            one.iter().any(|method| other.contains(method))
        })
        && both(one.paths.as_deref(), other.paths.as_deref(), |one, other| {
            one.iter().any(|path| other.iter().any(|theirs| path.may_overlap(theirs)))
        })
}

/// Whether some connection may be matched by both, whatever is asked on it.
pub(super) fn share_connections(one: &Compiled, other: &Compiled) -> bool {
    one.hosts.iter().any(|host| other.hosts.iter().any(|theirs| host.overlaps(theirs)))
        && one.ports.overlaps(&other.ports)
        && one.schemes.and(other.schemes) != SchemeSet::NONE
}

/// A condition that is left out leaves nothing out.
fn both<T: ?Sized>(one: Option<&T>, other: Option<&T>, hold: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => hold(one, other),
        _ => true,
    }
}

/// Host and network. What both together mean differs: a rule that allows is about the names, also at these
/// addresses; one that denies is about the names at these addresses only.
fn target(one: &Compiled, other: &Compiled) -> bool {
    let names = || hosts(&one.hosts, &other.hosts);
    let networks = || other.cidrs.iter().all(|theirs| one.cidrs.iter().any(|cidr| cidr.covers(theirs)));
    let (named, addressed) = (!other.hosts.is_empty(), !other.cidrs.is_empty());
    match one.effect {
        Effect::Allow if named => names() && networks(),
        Effect::Deny if named && one.cidrs.is_empty() => names(),
        Effect::Deny if named && one.hosts.is_empty() => {
            other.effect == Effect::Deny && addressed && networks()
        }
        Effect::Deny if named => other.effect == Effect::Deny && addressed && names() && networks(),
        _ => one.hosts.is_empty() && networks(),
    }
}

fn hosts(ours: &[HostPattern], theirs: &[HostPattern]) -> bool {
    theirs.iter().all(|their| ours.iter().any(|our| our.covers(their)))
}

fn methods(one: &Compiled, other: &Compiled) -> bool {
    let all = |ours: &[Box<str>], theirs: &[Box<str>]| theirs.iter().all(|method| ours.contains(method));
    conditions(one.methods.as_deref(), other.methods.as_deref(), all)
}

fn paths(one: &Compiled, other: &Compiled) -> bool {
    let all = |ours: &[PathPattern], theirs: &[PathPattern]| {
        theirs.iter().all(|their| ours.iter().any(|our| our.covers(their)))
    };
    conditions(one.paths.as_deref(), other.paths.as_deref(), all)
}

/// The more keys a rule names, the more it matches: one that allows lets no others be there, one that denies wants
/// one of them to be there.
fn query(one: &Compiled, other: &Compiled) -> bool {
    let all = |ours: &QueryKeys, theirs: &QueryKeys| {
        one.effect == other.effect && theirs.keys().iter().all(|key| ours.keys().contains(key))
    };
    conditions(one.query.as_ref(), other.query.as_ref(), all)
}

fn conditions<T: ?Sized>(one: Option<&T>, other: Option<&T>, cover: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => cover(one, other),
    }
}
