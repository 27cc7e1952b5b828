//! `policy check METHOD URL`.

use std::net::IpAddr;

use glue::question::Question;
use netproxy::Host;
use netproxy::guard::{LocalNetwork, special_range};
use policy::{Facts, Ruleset, TlsMode, Verdict, decide, decide_address, decide_public_address};
use serde_json::json;

use super::cli::CheckArgs;
use super::{load, moment};
use crate::error::{Error, Result};
use crate::report::{print, printable};

/// Exit code 0 if it would pass, 1 if not.
pub fn check(args: &CheckArgs, json: bool) -> Result<u8> {
    let rules = load::enforced(&args.policy.files)?;
    let question = Question::parse(&args.method, &args.url).map_err(Error::Usage)?;
    let facts = question.facts().at(moment(args.at));
    // The address of a literal is known, and would be judged before it is dialled.
    let address = match (args.address, question.host()) {
        (Some(address), _) => Some(address.to_canonical()),
        (None, Host::Ip(literal)) => Some(*literal),
        (None, Host::Name(_)) => None,
    };
    let verdict = judge(&rules, &facts, address);
    let text = verdict.explain(&facts).to_string();
    if json {
        let object = json!({
            "request": facts.to_string(),
            "address": address,
            "allowed": verdict.is_allowed(),
            "text": text,
            "verdict": verdict,
        });
        print(&object.to_string())?;
    } else {
        print(&printable(&text))?;
        for line in details(&verdict, address) {
            print(&format!("  {}", printable(&line)))?;
        }
    }
    Ok(u8::from(!verdict.is_allowed()))
}

/// Why the proxy takes an address for a special one, if it does.
fn special(address: IpAddr) -> Option<String> {
    let near = || Some(LocalNetwork::of_this_machine().ok()?.place(address)?.to_owned());
    special_range(address).map(str::to_owned).or_else(near)
}

fn judge<'r>(rules: &'r Ruleset, facts: &Facts<'_>, address: Option<IpAddr>) -> Verdict<'r> {
    match address {
        None => decide(rules, facts),
        Some(address) if special(address).is_some() => decide_address(rules, facts, address),
        Some(address) => decide_public_address(rules, facts, address),
    }
}

/// What the proxy would do beside letting it pass; or that it would pass although it is denied.
fn details(verdict: &Verdict<'_>, address: Option<IpAddr>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(address) = address {
        let range = special(address).map_or("a public address".to_owned(), |name| format!("special: {name}"));
        lines.push(format!("address     {address} ({range})"));
    }
    if verdict.would_deny() {
        lines.push("mode        audit: it would pass all the same, and be recorded".to_owned());
    }
    if !verdict.is_allowed() {
        return lines;
    }
    let mut say = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:<11} {value}")));
    };
    say("credential", verdict.credential.map(str::to_owned));
    say("tls", (verdict.tls == TlsMode::Opaque).then(|| "opaque: nobody looks inside".to_owned()));
    say("upstream", verdict.upstream.map(str::to_owned));
    let limits = verdict.limits;
    say("limit", limits.requests_per_s.map(|number| format!("{number} requests a second")));
    say("limit", limits.request_body_bytes.map(|number| format!("{number} bytes of request body")));
    say("limit", limits.connections.map(|number| format!("{number} connections at a time")));
    lines
}
