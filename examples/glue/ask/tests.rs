//! The desk with a person who is a channel.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use netproxy::hooks::{Authorize, ConnectFacts};
use netproxy::{Authority, Host};
use policy::Ruleset;
use policy::ask::Grants;

use super::*;
use crate::live::Loaded;
use crate::testing::host_name;

/// Tells the test what was put, and gives the answers of the test.
struct Person {
    put: Sender<String>,
    answers: Receiver<Option<Answer>>,
}

impl Asker for Person {
    fn put(&mut self, asked: &Asked<'_>) -> Option<Answer> {
        self.put.send(asked.question.to_string()).unwrap();
        self.answers.recv().ok().flatten()
    }
    fn tell(&mut self, text: &str) {
        self.put.send(format!("told: {text}")).unwrap();
    }
}

struct Stage {
    desk: Arc<Desk>,
    policy: Arc<LivePolicy>,
    put: Receiver<String>,
    answers: Sender<Option<Answer>>,
    file: PathBuf,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

const POLICY: &str = "# mine\nversion = 1\n\n[[deny]]\nid = \"no\"\nhost = \"no.example\"\n";

fn load(file: &Path) -> Loaded {
    let text = fs::read_to_string(file).unwrap();
    let rules = Ruleset::parse(&text, "policy.toml").map_err(|error| error.to_string());
    Loaded { rules, files: vec![file.to_owned()] }
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    fs::write(&file, POLICY).unwrap();
    let path = file.clone();
    let policy = LivePolicy::start(move || load(&path)).unwrap().asking(Grants::default());
    let policy = Arc::new(policy);
    let ((put, seen), (answers, answered)) = (channel(), channel());
    let person = Person { put, answers: answered };
    let desk = Arc::new(Desk::start(Arc::clone(&policy), Some(file.clone()), person).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Stage { desk, policy, put: seen, answers, file, runtime, _folder: folder }
}

impl Stage {
    /// A connection of raw bytes, asked about; the answer is there before.
    fn tcp(&self, place: &str, answer: Option<Answer>) -> Verdict {
        let authority = authority(place);
        let facts = ConnectFacts::to(&authority);
        let Verdict::Deny(deny) = self.policy.tcp(&facts) else { return self.policy.tcp(&facts) };
        if !deny.may_ask {
            return deny.into();
        }
        self.answers.send(answer).unwrap();
        self.runtime.block_on(self.desk.ask(Miss::Tcp(facts), deny))
    }

    fn put(&self) -> Vec<String> {
        self.put.try_iter().collect()
    }
}

fn authority(place: &str) -> Authority {
    let (host, port) = place.split_once(':').unwrap();
    Authority::new(Host::parse(host).unwrap(), port.parse().unwrap()).unwrap()
}

const ONCE: Option<Answer> = Some(Answer::Allow(Scope::Exactly, Term::Once));
const SANDBOX: Option<Answer> = Some(Answer::Allow(Scope::Exactly, Term::Sandbox));
const ALWAYS: Option<Answer> = Some(Answer::Allow(Scope::Exactly, Term::Always));

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Deny(deny) => &deny.reason,
        Verdict::Allow(allow) => panic!("{allow:?}"),
    }
}

fn rule(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Allow(allow) => &allow.rule,
        Verdict::Deny(deny) => panic!("{deny:?}"),
    }
}

#[test]
fn once_is_asked_again_and_the_sandboxs_life_is_not() {
    let stage = stage();
    for _ in 0..2 {
        assert_eq!(rule(&stage.tcp("a.example:22", ONCE)), "ask");
        assert_eq!(stage.put(), ["TCP a.example:22"]);
    }
    assert_eq!(rule(&stage.tcp("a.example:22", SANDBOX)), "ask");
    assert_eq!(stage.put().len(), 1);
    assert_eq!(rule(&stage.tcp("a.example:22", None)), "ask");
    assert_eq!(stage.put(), [""; 0], "it was asked again");
    assert_eq!(rule(&stage.policy.dns_name(&host_name("a.example"))), "ask");
    assert_eq!(fs::read_to_string(&stage.file).unwrap(), POLICY);
}

#[test]
fn no_and_silence_refuse_and_say_so() {
    let stage = stage();
    let verdict = stage.tcp("a.example:22", Some(Answer::Deny));
    assert!(reason(&verdict).ends_with("; the user was asked about it and said no"), "{}", reason(&verdict));
    let verdict = stage.tcp("b.example:22", None);
    assert!(reason(&verdict).ends_with("did not answer in time"), "{}", reason(&verdict));
    assert_eq!(stage.put().len(), 2);
    for place in ["a.example:22", "b.example:22"] {
        let verdict = stage.tcp(place, ONCE);
        assert!(reason(&verdict).ends_with("and did not allow it"), "{}", reason(&verdict));
        assert_eq!(stage.put(), [""; 0], "it was asked again");
    }
}

#[test]
fn a_deny_rule_is_no_question() {
    let stage = stage();
    assert!(reason(&stage.tcp("no.example:22", ONCE)).contains("rule \"no\""));
    let authority = authority("no.example:443");
    assert!(
        matches!(stage.policy.connect(&ConnectFacts::to(&authority)), Verdict::Deny(deny) if !deny.may_ask)
    );
    assert_eq!(stage.put(), [""; 0]);
}

#[test]
fn for_good_is_a_rule_in_the_users_file() {
    let stage = stage();
    assert_eq!(rule(&stage.tcp("db.example:5432", ALWAYS)), "ask");
    let text = fs::read_to_string(&stage.file).unwrap();
    let added = "\n[[allow]]\nid = \"asked-1\"\nhost = \"db.example\"\nports = [5432]\ntcp = true\n\
                 reason = \"allowed by the user when asked\"\n";
    assert_eq!(text, format!("{POLICY}{added}"));
    let proxy = netproxy::Proxy::builder().build().unwrap();
    stage.policy.reload(&proxy);
    assert_eq!(rule(&stage.tcp("db.example:5432", None)), "asked-1");
    assert_eq!(rule(&stage.tcp("other.example:5432", ALWAYS)), "ask");
    assert!(fs::read_to_string(&stage.file).unwrap().contains("id = \"asked-2\""));
    assert_eq!(stage.put().len(), 2);
}

#[test]
fn a_rule_with_which_the_file_does_not_load_is_taken_back() {
    let stage = stage();
    let broken = format!("{POLICY}[[allow]]\n");
    fs::write(&stage.file, &broken).unwrap();
    assert_eq!(rule(&stage.tcp("db.example:5432", ALWAYS)), "ask");
    assert_eq!(fs::read_to_string(&stage.file).unwrap(), broken);
    let told = stage.put();
    assert!(told[1].starts_with("told: allowed until the sandbox ends only"), "{told:?}");
    assert_eq!(rule(&stage.tcp("db.example:5432", None)), "ask");
}

#[test]
fn identical_attempts_wait_for_one_question() {
    let stage = stage();
    let authority = authority("a.example:22");
    let verdicts = stage.runtime.block_on(async {
        let ask = || async {
            let facts = ConnectFacts::to(&authority);
            let Verdict::Deny(deny) = stage.policy.tcp(&facts) else { panic!("allowed") };
            stage.desk.ask(Miss::Tcp(facts), deny).await
        };
        let answer = async {
            // Runs once the others wait.
            stage.answers.send(ONCE).unwrap();
        };
        tokio::join!(ask(), ask(), ask(), answer)
    });
    for verdict in [verdicts.0, verdicts.1, verdicts.2] {
        assert_eq!(rule(&verdict), "ask");
    }
    assert_eq!(stage.put(), ["TCP a.example:22"]);
}
