//! `services`: what is known, and what one would put in where.

use std::path::Path;

use credvault::{Allowed, Endpoint, Injection, Replaceable, Scheme, Service};
use serde_json::{Value, json};

use super::cli::SecretArgs;
use super::{problem, say};
use crate::error::Result;

pub fn services(args: &SecretArgs, name: Option<&str>, file: Option<&Path>) -> Result<()> {
    let known = glue::services::known(file).map_err(|error| problem("services", error))?;
    match name {
        None => {
            let row = |service: &Service| {
                let binding = &service.binding;
                format!("{:<24} {:<36} {}", binding.name, service.title, binding.env.join(" "))
            };
            let rows: Vec<String> = known.iter().map(row).collect();
            let all: Vec<Value> = known.iter().map(object).collect();
            say(args, &rows.join("\n"), json!({ "services": all }))
        }
        Some(name) => {
            let service = known
                .get(name)
                .ok_or_else(|| problem(name, "no such service: see `agent-sandbox secret services`"))?;
            say(args, &page(service), object(service))
        }
    }
}

fn page(service: &Service) -> String {
    let variables: Vec<&str> = service.binding.variables().collect();
    let mut text = format!("{}\nplaceholder in the sandbox: {}", service.title, variables.join(" "));
    for endpoint in &service.binding.endpoints {
        let (hosts, limits) = (hosts(endpoint).join(" "), limits(endpoint));
        text.push_str(&format!("\n  {hosts}{limits}\n    {}", how(&endpoint.injection)));
    }
    text
}

fn hosts(endpoint: &Endpoint) -> Vec<String> {
    let (scheme, usual) = match endpoint.scheme {
        Scheme::Https => ("https", 443),
        Scheme::Http => ("http", 80),
    };
    let port = if endpoint.port == usual { String::new() } else { format!(":{}", endpoint.port) };
    endpoint.hosts.iter().map(|host| format!("{scheme}://{host}{port}")).collect()
}

fn limits(endpoint: &Endpoint) -> String {
    let (methods, paths) = allowed(endpoint);
    let part = |what: &str, list: Option<Vec<String>>| {
        list.map(|list| format!(", {what} {}", list.join(" "))).unwrap_or_default()
    };
    part("only", methods) + &part("paths", paths)
}

/// `None` for any.
fn allowed(endpoint: &Endpoint) -> (Option<Vec<String>>, Option<Vec<String>>) {
    fn list<T>(allowed: &Allowed<T>, show: impl Fn(&T) -> String) -> Option<Vec<String>> {
        match allowed {
            Allowed::Any => None,
            Allowed::Only(list) => Some(list.iter().map(show).collect()),
        }
    }
    (list(&endpoint.methods, ToString::to_string), list(&endpoint.paths, ToString::to_string))
}

/// How the key is put in, with `KEY` in its place.
fn how(injection: &Injection) -> String {
    match injection {
        Injection::Header { name, before, after } => format!("{name}: {before}KEY{after}"),
        Injection::Basic { user } => format!("authorization: Basic base64({user}:KEY)"),
        Injection::Replace { headers: Replaceable::CredentialHeaders } => {
            "in place of its placeholder, in headers that carry credentials".to_owned()
        }
        Injection::Replace { headers: Replaceable::Named(names) } => {
            format!("in place of its placeholder, in {}", names.join(", "))
        }
        Injection::Query { parameter } => format!("query parameter {parameter}=KEY"),
        Injection::Body => "in place of its placeholder, in the body".to_owned(),
        Injection::AwsSigV4 => "AWS Signature V4, made anew".to_owned(),
        _ => "a signature made with the key".to_owned(),
    }
}

fn object(service: &Service) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        let (methods, paths) = allowed(endpoint);
        json!({ "hosts": hosts(endpoint), "methods": methods, "paths": paths, "inject": how(&endpoint.injection) })
    };
    let binding = &service.binding;
    json!({
        "name": binding.name, "title": service.title,
        "env": binding.variables().collect::<Vec<_>>(),
        "endpoints": binding.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use credvault::Services;

    use super::*;

    #[test]
    fn every_known_service_has_a_page() {
        let known = Services::builtin().unwrap();
        assert!(known.iter().count() > 50);
        for service in known.iter() {
            let text = page(service);
            assert!(text.contains("https://") && text.lines().count() >= 4, "{text}");
        }
        let text = page(known.get("anthropic").unwrap());
        assert!(text.contains("https://api.anthropic.com\n    x-api-key: KEY"), "{text}");
    }
}
