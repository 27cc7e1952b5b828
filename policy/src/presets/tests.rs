use super::*;
use crate::rule::{Compiled, SchemeSet};
use crate::{
    Effect, Facts, PolicyError, Registry, RegistryHost, RegistryHosts, Ruleset, RulesetBuilder, Scheme,
    decide,
};

/// Each client has a registry that is named after it.
struct OneEach;

impl RegistryHosts for OneEach {
    fn hosts(&self, registry: Registry) -> Result<Vec<RegistryHost>, String> {
        Ok(vec![RegistryHost {
            scheme: Scheme::Https,
            host: format!("{registry}.registry.example"),
            port: 443,
        }])
    }
}

fn load(text: &str, name: &str) -> Result<Ruleset, PolicyError> {
    Ok(RulesetBuilder::new().registry_hosts(OneEach).source(text, name)?.build())
}

fn everything() -> Ruleset {
    let all: Vec<_> = names().collect();
    load(&format!("version = 1\nuse = {all:?}\n"), "all.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn allows(rules: &Ruleset, request: &str) -> bool {
    decide(rules, &Facts::parse(request).unwrap().at(0)).is_allowed()
}

#[test]
fn each_preset_passes_its_own_tests_and_has_some_of_both_kinds() {
    for name in names() {
        let text = text(name).unwrap();
        load(text, name).unwrap_or_else(|error| panic!("{error}"));
        for expected in ["expect = \"allow\"", "expect = \"deny\""] {
            assert!(text.contains(expected), "{name} has no test with {expected}");
        }
        assert!(text.starts_with("# "), "{name} does not say what it is");
    }
}

#[test]
fn every_file_is_listed_and_every_rule_is_called_after_its_preset() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/presets");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "toml"));
    assert_eq!(files.count(), names().len());
    let all = everything();
    for rule in all.rules() {
        let name = rule.file.strip_prefix(FILE_PREFIX).unwrap();
        assert!(rule.id.starts_with(&format!("{name}.")), "{} in {name}", rule.id);
        assert_eq!(rule.layer, "all.toml");
        assert!(rule.line > 0);
    }
}

#[test]
fn no_preset_has_a_wildcard_host_any_port_raw_bytes_clear_text_or_an_uninspected_tunnel() {
    for name in names() {
        let text = text(name).unwrap();
        for line in text.lines().filter(|line| line.starts_with("host = ")) {
            assert!(!line.contains('*'), "{name}: {line}");
        }
        for key in ["ports", "tcp", "tls", "scheme", "cidr", "credential", "include", "mode", "ceiling"] {
            assert!(!text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{name}: {key}");
        }
        for rule in text.split("[[allow]]").skip(1) {
            assert!(rule.contains("\nmethods = "), "{name}: every rule says its methods: {rule}");
        }
    }
}

/// Where Docker's "Balanced" list lets data out, and places of the same kinds: with all presets on, none of them
/// can be reached. Source: docs/policy.md.
#[test]
fn with_all_presets_on_no_place_where_anybody_can_leave_data_can_be_written() {
    let all = everything();
    let object_stores = [
        "bucket.s3.amazonaws.com",
        "s3.amazonaws.com",
        "bucket.s3.eu-central-1.amazonaws.com",
        "storage.googleapis.com",
        "bucket.storage.googleapis.com",
        "www.googleapis.com",
        "sheets.googleapis.com",
        "drive.google.com",
        "x.googleusercontent.com",
        "x.blob.core.windows.net",
        "account.r2.cloudflarestorage.com",
        "x.public.blob.vercel-storage.com",
        "x.supabase.co",
        "files.openai.com",
        "uploads.github.com",
        "x.digitaloceanspaces.com",
        "x.backblazeb2.com",
        "x.execute-api.us-east-1.amazonaws.com",
        "sqs.us-east-1.amazonaws.com",
        "x.lambda-url.us-east-1.on.aws",
        "x.azurewebsites.net",
        "x.visualstudio.com",
        "dev.azure.com",
        "x.run.app",
        "x.workers.dev",
        "x.vercel.app",
        "x.ngrok.app",
    ];
    let snippets = [
        "gist.github.com",
        "gist.githubusercontent.com",
        "pastebin.com",
        "paste.rs",
        "0x0.st",
        "transfer.sh",
        "hastebin.com",
        "webhook.site",
        "x.requestcatcher.com",
        "httpbin.org",
        "discord.com",
        "hooks.slack.com",
        "api.telegram.org",
        "bitbucket.org",
        "sourceforge.net",
        "launchpad.net",
        "x.github.io",
        "x.gitlab.io",
        "avatars.githubusercontent.com",
        "user-images.githubusercontent.com",
        "copilot.github.com",
        "telemetry.example",
        "statsig.anthropic.com",
        "claude.ai",
    ];
    for host in object_stores.iter().chain(&snippets) {
        for request in
            ["GET /", "PUT /object", "POST /upload", "POST /repos/a/b/issues", "POST /a/b/git-receive-pack"]
        {
            let (method, path) = request.split_once(' ').unwrap();
            let line = format!("{method} https://{host}{path}");
            assert!(!allows(&all, &line), "{line}");
        }
        assert!(!allows(&all, &format!("DNS {host}")) || *host == "uploads.github.com", "{host}");
    }
    for line in [
        "POST https://api.github.com/gists",
        "PATCH https://api.github.com/gists/1",
        "POST https://api.github.com/user/repos",
        "POST https://api.github.com/orgs/x/repos",
        "PUT https://api.github.com/user/starred/a/b",
        "POST https://api.github.com/user/keys",
        "POST https://gitlab.com/api/v4/snippets",
        "POST https://gitlab.com/api/v4/projects",
        "POST https://gitlab.com/api/v4/projects/1/snippets",
        "POST https://gitlab.com/snippets/1.git/git-receive-pack",
        "PUT https://gitlab.com/api/v4/projects/1/packages/generic/a/1/f",
        "POST https://gitlab.com/api/graphql",
        "POST https://api.github.com/graphql",
        "POST https://gitlab.com/api/v4/projects/1/repository/files/git-upload-pack",
        "POST https://gitlab.com/api/v4/projects/1/repository/tags/git-upload-pack",
        "POST https://gitlab.com/a/b/-/create/main/x.git/git-upload-pack",
        "POST https://gitlab.com/a/b/-/create/x.git/git-receive-pack",
        "POST https://api.github.com/repos/a/b/forks",
        "POST https://api.github.com/repos/a/b/actions/runners/registration-token",
        "PUT https://raw.githubusercontent.com/a/b/main/x",
        "POST https://objects.githubusercontent.com/x",
        "POST https://api.openai.com/v1/files",
        "POST https://api.openai.com/v1/uploads",
        "POST https://api.openai.com/v1/vector_stores",
        "POST https://api.openai.com/v1/batches",
        "POST https://api.anthropic.com/v1/files",
        "POST https://api.anthropic.com/v1/messages/batches",
        "POST https://generativelanguage.googleapis.com/upload/v1beta/files",
        "POST https://generativelanguage.googleapis.com/v1beta/cachedContents",
        "POST https://api.mistral.ai/v1/files",
        "POST https://api.groq.com/openai/v1/files",
        "PUT https://pip.registry.example/x",
        "POST https://pip.registry.example/legacy/",
        "PUT https://npm.registry.example/x",
        "PUT https://cargo.registry.example/api/v1/crates/new",
        "PUT https://maven.registry.example/x.jar",
        "POST https://containers.registry.example/v2/x/blobs/uploads/",
        "CONNECT github.com:22",
        "TCP github.com:9418",
        "GET http://github.com/a/b/info/refs",
        "GET https://github.com:8443/a/b/info/refs?service=git-upload-pack",
    ] {
        assert!(!allows(&all, line), "{line}");
    }
}

#[test]
fn rules_that_pass_data_on_are_labelled() {
    let all = everything();
    for line in [
        "POST https://github.com/a/b/git-receive-pack",
        "POST https://api.github.com/repos/a/b/issues",
        "POST https://uploads.github.com/repos/a/b/releases/1/assets",
        "POST https://gitlab.com/a/b.git/git-receive-pack",
        "POST https://gitlab.com/api/v4/projects/1/issues",
        "POST https://api.openai.com/v1/responses",
        "POST https://api.x.ai/v1/responses",
    ] {
        let verdict = decide(&all, &Facts::parse(line).unwrap());
        assert!(verdict.rule.is_some_and(|rule| rule.write_capable), "{line}");
    }
    for line in ["POST https://github.com/a/b/git-upload-pack", "GET https://pip.registry.example/simple/"] {
        let verdict = decide(&all, &Facts::parse(line).unwrap());
        assert!(verdict.is_allowed() && verdict.rule.is_some_and(|rule| !rule.write_capable), "{line}");
    }
}

/// A key that came with an attack reads on its owner's page what was sent with it, whatever the API keeps.
#[test]
fn whatever_takes_a_body_is_labelled_but_signing_in_and_questions_of_git_and_npm() {
    let bare = |rule: &&Compiled| {
        let sends = |methods: &[Box<str>]| !methods.iter().all(|method| ["GET", "HEAD"].contains(&&**method));
        let socket = rule.schemes.and(SchemeSet::NONE.with(Scheme::Wss)) != SchemeSet::NONE;
        rule.effect == Effect::Allow
            && !rule.write_capable
            && (socket || rule.methods.as_deref().is_none_or(sends))
    };
    let all = everything();
    let ids: Vec<&str> = all.rules.iter().filter(bare).map(|rule| &*rule.id).collect();
    assert_eq!(
        ids,
        ["claude-code.sign-in", "codex.sign-in", "github-read.git-fetch", "gitlab.git-fetch", "npm.audit"]
    );
}

#[test]
fn a_preset_may_be_used_by_several_layers_and_bounds_where_it_is_a_ceiling() {
    let text = "version = 1\nuse = \"github-read\"\n";
    let more = "version = 1\nuse = [\"github-read\", \"github-read\", \"pip\"]\n[[allow]]\nhost = \"a.example\"\n\
                [[test]]\nrequest = \"HEAD https://pip.registry.example/\"\nexpect = \"allow\"\n";
    let builder = RulesetBuilder::new().registry_hosts(OneEach);
    let builder = builder.source(text, "one.toml").unwrap().source(more, "two.toml").unwrap();
    let both = builder.build();
    assert!(allows(&both, "GET https://api.github.com/x") && allows(&both, "GET https://a.example/"));
    let ceiling = format!("ceiling = true\n{text}");
    let builder = RulesetBuilder::new().registry_hosts(OneEach);
    let bound = builder.source(more, "two.toml").unwrap().source(&ceiling, "top.toml").unwrap().build();
    assert!(allows(&bound, "GET https://api.github.com/x") && !allows(&bound, "GET https://a.example/"));
    assert!(!allows(&bound, "GET https://pip.registry.example/"));
}

#[test]
fn tests_of_a_file_count_on_its_presets_also_where_another_file_used_them_before() {
    struct Parts([String; 2]);
    impl crate::Includes for Parts {
        fn read(&self, _: &str, wanted: &str) -> Result<crate::Included, String> {
            let text = self.0[usize::from(wanted == "two")].clone();
            Ok(crate::Included { name: wanted.to_owned(), text })
        }
    }
    let load_both = |request: &str| {
        let one = "version = 1\nuse = \"github-write\"\n".to_owned();
        let test = format!("[[test]]\nrequest = \"{request}\"\nexpect = \"allow\"\n");
        let two = format!("version = 1\nuse = \"github-read\"\n{test}");
        let builder = RulesetBuilder::new().includes(Parts([one, two]));
        builder.source("version = 1\ninclude = [\"one\", \"two\"]\n", "main").map(RulesetBuilder::build)
    };
    let rules = load_both("GET https://api.github.com/x").unwrap();
    let ids: Vec<_> = rules.rules().map(|rule| rule.id.to_owned()).collect();
    assert!(!ids.iter().any(|id| id.ends_with("-2")), "each preset once in a layer: {ids:?}");
    // But not on what only the other file uses.
    let push = load_both("POST https://github.com/a/b/git-receive-pack");
    assert!(matches!(push, Err(PolicyError::TestFailed { .. })));
}

#[test]
fn an_unknown_preset_is_an_error_with_the_list_and_the_nearest_name() {
    for (wrong, meant) in
        [("gtihub-read", Some("github-read")), ("github", Some("github-read")), ("PIP", None), ("", None)]
    {
        let error = load(&format!("version = 1\nuse = {wrong:?}\n"), "p.toml").unwrap_err();
        let PolicyError::Preset { nearest, .. } = &error else { panic!("{error}") };
        assert_eq!(*nearest, meant, "{wrong}");
        let said = error.to_string();
        assert!(said.contains("p.toml:2:7") && said.contains("there are: anthropic, claude-code"), "{said}");
        assert_eq!(said.contains("did you mean"), meant.is_some());
    }
    assert_eq!(nearest(&"x".repeat(100_000)), None);
}

#[test]
fn a_registry_that_is_not_known_is_an_error_at_the_user_s_own_line() {
    let error = Ruleset::parse("version = 1\n\nuse = \"pip\"\n", "p.toml").unwrap_err();
    assert!(error.to_string().starts_with("p.toml:3:7: the hosts of `pip` are not known"), "{error}");
}
