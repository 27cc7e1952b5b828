//! In Cedar's language: the method is the action, what is known of the request is the context.

use std::fmt::Write as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};

use crate::{COUNT, Question};

pub struct Engine {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

impl Engine {
    fn new(text: &str) -> Self {
        let policies = text.parse().expect("policies that parse");
        Self { authorizer: Authorizer::new(), policies, entities: Entities::empty() }
    }

    pub fn ten_rules() -> Self {
        let mut text = String::new();
        for n in 0..8 {
            writeln!(
                text,
                "permit (principal, action in [Action::\"GET\", Action::\"POST\"], resource) when {{ \
                 context.host == \"api{n}.example.com\" && context.scheme == \"https\" && context.port == 443 \
                 && context.path like \"/v1/*\" }};"
            )
            .expect("writing to memory");
        }
        text.push_str(
            "permit (principal, action == Action::\"GET\", resource) when { context.host like \"*.example.org\" \
             && context.scheme == \"https\" && context.port == 443 };\n\
             forbid (principal, action, resource) when { context.host like \"*.example.com\" \
             && context.path like \"*/admin/*\" };\n",
        );
        Self::new(&text)
    }

    pub fn many_hosts() -> Self {
        let names: Vec<String> = (0..COUNT).map(|n| format!("\"host{n}.example.com\"")).collect();
        let mut text = format!(
            "permit (principal, action, resource) when {{ context.scheme == \"https\" && context.port == 443 \
             && [{}].contains(context.host) }};\n",
            names.join(", ")
        );
        for n in 0..COUNT {
            writeln!(
                text,
                "forbid (principal, action, resource) when {{ context.host like \"*.blocked{n}.example.net\" }};"
            )
            .expect("writing to memory");
        }
        Self::new(&text)
    }

    pub fn allows(&self, asked: &Request) -> bool {
        self.authorizer.is_authorized(asked, &self.policies, &self.entities).decision() == Decision::Allow
    }
}

pub fn question(asked: &Question) -> Request {
    let uid = |text: String| text.parse::<EntityUid>().expect("an entity's name");
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let context = Context::from_pairs([
        ("host".to_owned(), text(asked.host)),
        ("path".to_owned(), text(asked.path)),
        ("scheme".to_owned(), text("https")),
        ("port".to_owned(), RestrictedExpression::new_long(443)),
    ]);
    let action = uid(format!("Action::\"{}\"", asked.method));
    let (who, what) = (uid("Sandbox::\"s\"".to_owned()), uid("Host::\"h\"".to_owned()));
    Request::new(who, action, what, context.expect("a context"), None).expect("a request")
}
