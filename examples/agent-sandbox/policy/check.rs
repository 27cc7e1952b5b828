//! `policy check METHOD URL`.

use std::io;
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
    let special = match address {
        Some(address) => special(address, LocalNetwork::of_this_machine).map_err(Error::io(
            "the addresses of this machine cannot be read, without which the proxy does not start",
        ))?,
        None => None,
    };
    let address = address.map(|address| (address, special));
    let verdict = judge(&rules, &facts, address.as_ref());
    let text = verdict.explain(&facts).to_string();
    if json {
        let object = json!({
            "request": facts.to_string(),
            "address": address.as_ref().map(|(address, _)| address),
            "allowed": verdict.is_allowed(),
            "text": text,
            "verdict": verdict,
        });
        print(&object.to_string())?;
    } else {
        print(&printable(&text))?;
        for line in details(&verdict, address.as_ref()) {
            print(&format!("  {}", printable(&line)))?;
        }
    }
    Ok(u8::from(!verdict.is_allowed()))
}

/// An address, and why the proxy takes it for a special one, if it does.
type Judged = (IpAddr, Option<&'static str>);

fn special(address: IpAddr, near: impl Fn() -> io::Result<LocalNetwork>) -> io::Result<Option<&'static str>> {
    match special_range(address) {
        Some(range) => Ok(Some(range)),
        None => Ok(near()?.place(address)),
    }
}

fn judge<'r>(rules: &'r Ruleset, facts: &Facts<'_>, address: Option<&Judged>) -> Verdict<'r> {
    match address {
        None => decide(rules, facts),
        Some((address, Some(_))) => decide_address(rules, facts, *address),
        Some((address, None)) => decide_public_address(rules, facts, *address),
    }
}

/// What the proxy would do beside letting it pass; or that it would pass although it is denied.
fn details(verdict: &Verdict<'_>, address: Option<&Judged>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((address, special)) = address {
        let range = special.map_or("a public address".to_owned(), |name| format!("special: {name}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_called_public_where_it_is_not_known_what_is_near() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let unknown = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(special(address("1.1.1.1"), unknown).is_err());
        assert_eq!(special(address("10.0.0.1"), unknown).unwrap(), Some("private use"));
        let near = || Ok(LocalNetwork::default().with_interface(address("1.1.1.7"), 24));
        assert_eq!(special(address("1.1.1.1"), near).unwrap(), Some("on this machine's local network"));
        assert_eq!(special(address("1.1.2.1"), near).unwrap(), None);
    }
}
