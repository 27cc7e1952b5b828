//! The one function that decides. Enforcing, checking, testing and explaining all call it; it allocates
//! nothing, and the order of rules never changes the effect.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::canonical::PathReading;
use crate::facts::{Facts, Host, Layer, check_ip};
use crate::index::Found;
use crate::pattern::cidr::ipv4_by_nat64;
use crate::rule::{Compiled, Fit};
use crate::ruleset::{Mode, Ruleset};
use crate::verdict::{Cause, Effect, Field, Miss, OnOpaque, RuleLimits, TlsMode, Verdict};

/// Decides about one attempt.
///
/// * Facts that are not canonical are denied, whatever the rules.
/// * A deny rule all of whose conditions hold denies, whatever else allows. One with conditions on what is
///   not known yet does not decide now, but makes TLS be inspected so that it can later. Of raw bytes
///   nothing more will be known: there it denies.
/// * An allow rule none of whose conditions fails allows, if each layer that is a ceiling has such a rule
///   too. Among several, the one with a credential is named, then that of the most exact host, then that with
///   the most conditions, then the first. Credential, upstream, limits and the like are those of the named
///   rule; limits of ceilings hold too.
/// * Everything else is denied.
///
/// A refusal of a layer with `mode = "audit"` is told by [`Verdict::would_deny`]. Where a layer that enforces refuses
/// too, that is the answer: by a rule or a ceiling of its own, or as it grants and nobody allows.
pub fn decide<'r>(rules: &'r Ruleset, facts: &Facts<'_>) -> Verdict<'r> {
    decide_as(rules, facts, false)
}

/// With `granted`, as if some rule allowed it that says no more than yes.
pub(crate) fn decide_as<'r>(rules: &'r Ruleset, facts: &Facts<'_>, granted: bool) -> Verdict<'r> {
    let reading = match facts.reading() {
        Ok(reading) => reading,
        Err(fault) => return Verdict::refuse(Cause::NotCanonical(fault), rules, facts),
    };
    let mut tally = Tally { granted, ..Tally::new(rules, facts) };
    count_host(&mut tally, reading);
    let verdict = tally.verdict();
    if verdict.cause == Cause::Ceiling {
        about_ceiling(verdict, &tally, reading, count_host)
    } else {
        verdict
    }
}

fn count_host(tally: &mut Tally<'_, '_>, reading: PathReading) {
    let (rules, facts) = (tally.rules, tally.facts);
    rules.index.for_host(facts.host(), |found| {
        if let Some(rule) = rules.at(found.position)
            && rule.speaks_of(facts.host())
        {
            tally.count(found, rule, reading);
        }
    });
}

/// Looks again at the rules of the ceiling that does not allow it alone, for the one that comes nearest.
fn about_ceiling<'r, 'f>(
    verdict: Verdict<'r>,
    tally: &Tally<'r, 'f>,
    reading: PathReading,
    count: impl Fn(&mut Tally<'r, 'f>, PathReading),
) -> Verdict<'r> {
    let mut again =
        Tally { misses_of: tally.unmet_ceiling(verdict.mode), ..Tally::new(tally.rules, tally.facts) };
    count(&mut again, reading);
    Verdict { nearest_miss: again.nearest_miss(), ..verdict }
}

/// Whether a *special-purpose* address (loopback, private, link-local…) that the host of `facts` resolved
/// to, or that it is, may be dialled. Allowed only if [`decide`] allows `facts`, and an allow rule with a
/// `cidr` that holds `ip` matches them too: its `host`, if it has one, and its ports, scheme, methods and
/// paths. A deny rule with such a `cidr` denies. No refusal of this function is only recorded.
pub fn decide_address<'r>(rules: &'r Ruleset, facts: &Facts<'_>, ip: IpAddr) -> Verdict<'r> {
    let verdict = address_verdict(rules, facts, ip, Cause::SpecialAddress, false);
    if verdict.is_allowed() { verdict } else { Verdict { mode: Mode::Enforce, ..verdict } }
}

/// The same for any other address: allowed if [`decide`] allows `facts`, unless a deny rule with a `cidr`
/// that holds `ip` matches; such a rule denies whatever the mode of its layer. Which addresses are special is the
/// caller's to know.
pub fn decide_public_address<'r>(rules: &'r Ruleset, facts: &Facts<'_>, ip: IpAddr) -> Verdict<'r> {
    public_address_as(rules, facts, ip, false)
}

pub(crate) fn public_address_as<'r>(
    rules: &'r Ruleset,
    facts: &Facts<'_>,
    ip: IpAddr,
    granted: bool,
) -> Verdict<'r> {
    address_verdict(rules, facts, ip, Cause::PublicAddress, granted)
}

fn address_verdict<'r>(
    rules: &'r Ruleset,
    facts: &Facts<'_>,
    ip: IpAddr,
    otherwise: Cause,
    granted: bool,
) -> Verdict<'r> {
    let verdict = decide_as(rules, facts, granted);
    let rehearsed = verdict.would_deny() && otherwise == Cause::PublicAddress;
    let (true, Ok(reading)) = (verdict.is_allowed() || rehearsed, facts.reading()) else { return verdict };
    if let Err(fault) = check_ip(ip) {
        return Verdict::refuse(Cause::NotCanonical(fault), rules, facts);
    }
    // A literal address has been decided by its own networks; any other address is not what was asked for.
    if let Host::Ip(literal) = facts.host()
        && literal != ip
    {
        return Verdict::refuse(Cause::SpecialAddress, rules, facts);
    }
    let count = |tally: &mut Tally<'r, '_>, reading| count_address(tally, ip, reading);
    let mut tally = Tally::new(rules, facts);
    tally.granted = otherwise == Cause::PublicAddress;
    count(&mut tally, reading);
    let about_address = tally.verdict();
    // A deny that hangs on method or path wants to look inside, also one about this address.
    let tls = if tally.enforced.unsure.or(tally.rehearsed.unsure).is_some() {
        TlsMode::Inspect
    } else {
        verdict.tls
    };
    match (about_address.cause, about_address.effect, otherwise) {
        // The rule that allows the request keeps its say on credential and TLS.
        (Cause::Rule, Effect::Allow, _) if !rehearsed => {
            Verdict { rule: about_address.rule, layer: about_address.layer, tls, ..verdict }
        }
        (Cause::Rule, Effect::Deny, _) => Verdict { mode: Mode::Enforce, ..about_address },
        _ if rehearsed => verdict,
        (_, _, Cause::PublicAddress) => Verdict { cause: Cause::PublicAddress, tls, ..verdict },
        (Cause::Ceiling, ..) => about_ceiling(about_address, &tally, reading, count),
        _ => {
            let nearest = verdict.rule.map(|rule| Miss { rule, field: Field::Address });
            let nearest_miss = about_address.nearest_miss.or(nearest);
            Verdict { nearest_miss, ..Verdict::refuse(Cause::SpecialAddress, rules, facts) }
        }
    }
}

fn count_address(tally: &mut Tally<'_, '_>, ip: IpAddr, reading: PathReading) {
    let (rules, host) = (tally.rules, tally.facts.host());
    let mut count = |found: Found, denies_only: bool| {
        if let Some(rule) = rules.at(found.position)
            && (rule.effect == Effect::Deny || !denies_only)
        {
            let exactness = found.exactness.filter(|_| rule.hosts.is_empty() || rule.names(host));
            tally.count(Found { exactness, ..found }, rule, reading);
        }
    };
    rules.index.for_address(ip, |found| count(found, false));
    // What is denied is so by every way there; what is allowed is what was named.
    if let Some(inside) = ipv4_by_nat64(ip) {
        rules.index.for_address(inside, |found| count(found, true));
    }
}

impl Ruleset {
    fn at(&self, position: u32) -> Option<&Compiled> {
        usize::try_from(position).ok().and_then(|position| self.rules.get(position))
    }
}

impl Compiled {
    /// Whether the rule is about the host itself: one with host *and* networks is not about addresses
    /// as such, and a deny of that kind is about the pair, which is not known before the name is resolved.
    fn speaks_of(&self, host: Host<'_>) -> bool {
        match host {
            Host::Name(_) => self.effect == Effect::Allow || self.cidrs.is_empty(),
            Host::Ip(_) => self.hosts.is_empty(),
        }
    }
}

/// How good a claim a rule has to be the one that is named. Compared field by field.
type Claim = (bool, u16, u8, Reverse<u32>);

/// Deny rules that speak against it.
#[derive(Clone, Copy, Default)]
struct Denials<'r> {
    sure: Option<(Claim, &'r Compiled)>,
    /// May or may not hold, by what is known.
    unsure: Option<(Claim, &'r Compiled)>,
}

/// What the rules looked at so far amount to.
struct Tally<'r, 'f> {
    rules: &'r Ruleset,
    facts: &'f Facts<'f>,
    enforced: Denials<'r>,
    /// The same of layers that only record.
    rehearsed: Denials<'r>,
    allow: Option<(Claim, &'r Compiled)>,
    miss: Option<((Field, Reverse<u32>), &'r Compiled)>,
    must_inspect: bool,
    /// Something else than these rules allows it; they can only deny.
    granted: bool,
    /// Bit n: ceiling n + 1 has a rule that allows it.
    ceilings_met: u8,
    /// What these rules of ceilings ask for, taken together.
    ceiling_limits: RuleLimits,
    ceiling_on_opaque: OnOpaque,
    /// Whose misses are kept: 0 for rules that grant, else a ceiling's number as in [`Compiled::ceiling`].
    misses_of: u8,
}

impl<'r, 'f> Tally<'r, 'f> {
    fn new(rules: &'r Ruleset, facts: &'f Facts<'f>) -> Self {
        Self {
            rules,
            facts,
            enforced: Denials::default(),
            rehearsed: Denials::default(),
            allow: None,
            miss: None,
            must_inspect: false,
            granted: false,
            ceilings_met: 0,
            ceiling_limits: RuleLimits::default(),
            ceiling_on_opaque: OnOpaque::Pass,
            misses_of: 0,
        }
    }

    fn count(&mut self, found: Found, rule: &'r Compiled, reading: PathReading) {
        let fit = match found.exactness {
            Some(_) => rule.fit(self.facts, reading),
            None => Fit::No(Field::Host),
        };
        match (rule.effect, fit) {
            (Effect::Deny, Fit::Yes) => keep_best(&mut self.denials_of(rule).sure, claim(found, rule), rule),
            (Effect::Deny, Fit::Perhaps) => {
                self.must_inspect = true;
                keep_best(&mut self.denials_of(rule).unsure, claim(found, rule), rule);
            }
            (Effect::Allow, Fit::Yes | Fit::Perhaps) => {
                self.must_inspect |= rule.tls == TlsMode::Inspect;
                debug_assert!(fit == Fit::Yes || self.facts.layer() != Layer::Http, "a request is known");
                if rule.ceiling != 0 {
                    return self.meet(rule);
                }
                keep_best(&mut self.allow, claim(found, rule), rule);
            }
            (Effect::Allow, Fit::No(field)) if rule.ceiling == self.misses_of => {
                keep_best(&mut self.miss, (field, Reverse(found.position)), rule);
            }
            (_, Fit::No(_)) => {}
        }
    }

    fn denials_of(&mut self, rule: &Compiled) -> &mut Denials<'r> {
        match rule.mode {
            Mode::Enforce => &mut self.enforced,
            Mode::Audit => &mut self.rehearsed,
        }
    }

    /// A rule of a ceiling allows it.
    fn meet(&mut self, rule: &Compiled) {
        self.ceilings_met |= ceiling_bit(rule.ceiling);
        self.ceiling_limits = self.ceiling_limits.stricter(rule.limits);
        if rule.on_opaque == OnOpaque::Refuse {
            self.ceiling_on_opaque = OnOpaque::Refuse;
        }
    }

    /// The first ceiling of this mode that has no rule which allows it; 0 for none.
    fn unmet_ceiling(&self, mode: Mode) -> u8 {
        let numbers = (1u8..).zip(&self.rules.ceilings).map(|(number, _)| number);
        let is_of =
            |number: u8| (self.rules.audit_ceilings & ceiling_bit(number) != 0) == (mode == Mode::Audit);
        let mut unmet =
            numbers.filter(|number| is_of(*number) && self.ceilings_met & ceiling_bit(*number) == 0);
        unmet.next().unwrap_or(0)
    }

    fn nearest_miss(&self) -> Option<Miss<'r>> {
        self.miss.map(|((field, _), rule)| Miss { rule: rule.reference(), field })
    }

    /// A refusal that is carried out comes before one that is only recorded.
    fn verdict(&self) -> Verdict<'r> {
        let refusal = self.refusal(Mode::Enforce).or_else(|| self.refusal(Mode::Audit));
        refusal.unwrap_or_else(|| self.permission())
    }

    /// What the layers of one mode have against it: a deny rule, that no rule allows it, a ceiling.
    fn refusal(&self, mode: Mode) -> Option<Verdict<'r>> {
        let refusal = |cause| Verdict { mode, ..Verdict::refuse(cause, self.rules, self.facts) };
        let denials = if mode == Mode::Enforce { &self.enforced } else { &self.rehearsed };
        // Of raw bytes nothing more will be known: what might be denied is. Where they do not pass anyway, as no
        // rule allows them, that is the better answer.
        let passes = self.allow.is_some() || self.granted || self.rules.floor == Mode::Audit;
        let unsure = denials.unsure.filter(|_| self.facts.layer() == Layer::Tcp && passes);
        if let Some((_, rule)) = denials.sure.or(unsure) {
            let layer = Some(&*rule.layer);
            return Some(Verdict { rule: Some(rule.reference()), layer, ..refusal(Cause::Rule) });
        }
        if self.allow.is_none() && !self.granted && self.rules.floor == mode {
            return Some(Verdict { nearest_miss: self.nearest_miss(), ..refusal(Cause::NoRule) });
        }
        let unmet = self.unmet_ceiling(mode).checked_sub(1)?;
        let layer = self.rules.ceilings.get(usize::from(unmet)).map(|name| &**name);
        Some(Verdict { layer, ..refusal(Cause::Ceiling) })
    }

    /// Nothing is against it, so a rule or a person allows it; without one it is refused all the same.
    fn permission(&self) -> Verdict<'r> {
        let refusal = |cause| Verdict::refuse(cause, self.rules, self.facts);
        let Some((_, rule)) = self.allow else {
            let effect = if self.granted { Effect::Allow } else { Effect::Deny };
            let cause = if self.granted { Cause::Granted } else { Cause::NoRule };
            return Verdict { effect, limits: self.ceiling_limits, ..refusal(cause) };
        };
        // Of a request nothing is unknown: all conditions have been seen to hold.
        let complete = self.facts.layer() == Layer::Http;
        let pass = rule.on_opaque == OnOpaque::Pass && self.ceiling_on_opaque == OnOpaque::Pass;
        Verdict {
            effect: Effect::Allow,
            rule: Some(rule.reference()),
            layer: Some(&*rule.layer),
            credential: rule.credential.as_deref().filter(|_| complete),
            tls: if self.must_inspect { TlsMode::Inspect } else { TlsMode::Opaque },
            upstream: rule.upstream.as_deref(),
            on_opaque: if pass { OnOpaque::Pass } else { OnOpaque::Refuse },
            limits: rule.limits.stricter(self.ceiling_limits),
            ..refusal(Cause::Rule)
        }
    }
}

pub(crate) fn ceiling_bit(number: u8) -> u8 {
    1u8.checked_shl(u32::from(number).saturating_sub(1)).unwrap_or(0)
}

/// The same rule may be seen twice with the same claim; no two rules have the same.
fn keep_best<'r, K: PartialOrd>(best: &mut Option<(K, &'r Compiled)>, claim: K, rule: &'r Compiled) {
    if best.as_ref().is_none_or(|(known, _)| claim > *known) {
        *best = Some((claim, rule));
    }
}

fn claim(found: Found, rule: &Compiled) -> Claim {
    (rule.credential.is_some(), found.exactness.unwrap_or(0), rule.condition_count(), Reverse(found.position))
}
