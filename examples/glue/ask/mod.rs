//! `--ask`: a person decides what no rule does, while the request waits.
//!
//! ```text
//!   netproxy ── a refusal that may be asked about ──▶ Desk ── Line ──▶ one thread ── Asker (a terminal)
//!            ◀─ the verdict under what was answered ──┘                  └─▶ Grants, or a rule in the user's file
//! ```
//!
//! What may be asked about, and what a yes means, `policy::ask` says: never against a deny rule, a ceiling or the
//! guard of private addresses.

pub mod file;
pub mod line;
pub mod terminal;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use netproxy::hooks::{Ask, BoxFuture, Deny, Miss, Verdict};
use policy::Facts;
use policy::ask::{Answer, Question, Scope, Term, decide_granted};
use tokio::sync::oneshot;

use crate::authorize::{host, now, request_facts, verdict_of};
use crate::live::LivePolicy;
use line::Line;

/// How long a question stands before silence is a no. Less than most clients wait for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// One question, as it is put.
pub struct Asked<'a> {
    /// What was tried.
    pub question: &'a Question,
    /// Questions that wait behind it.
    pub behind: usize,
    /// There is a file that a rule for good could go to.
    pub may_always: bool,
}

impl Asked<'_> {
    /// Whether this is an answer to choose from.
    #[must_use]
    pub fn offers(&self, answer: Answer) -> bool {
        match answer {
            Answer::Deny | Answer::Allow(Scope::Exactly, Term::Once | Term::Sandbox) => true,
            Answer::Allow(Scope::Host, Term::Once) => false,
            Answer::Allow(Scope::Host, _) if !self.question.has_scopes() => false,
            Answer::Allow(Scope::Host, Term::Sandbox) => true,
            Answer::Allow(scope, Term::Always) => {
                self.may_always && self.question.rule_text(scope, "asked", "").is_some()
            }
        }
    }
}

/// Whoever is asked.
pub trait Asker: Send {
    /// Puts one question and waits for the answer, up to a limit of its own; `None` if there was none.
    fn put(&mut self, asked: &Asked<'_>) -> Option<Answer>;
    /// Tells what came of an answer, where that is not what was answered.
    fn tell(&mut self, text: &str);
}

/// Takes refusals from the proxy and puts them to one [`Asker`], one at a time.
pub struct Desk {
    shared: Arc<Shared>,
}

struct Shared {
    policy: Arc<LivePolicy>,
    file: Option<PathBuf>,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    line: Line<oneshot::Sender<Settled>>,
    over: bool,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Allowed,
    Refused,
    Unanswered,
}

impl Desk {
    /// Starts the thread that asks. `policy` must have been made with [`LivePolicy::asking`]; rules for good are
    /// appended to `file`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        policy: Arc<LivePolicy>,
        file: Option<PathBuf>,
        mut asker: impl Asker + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { policy, file, state: Mutex::default(), news: Condvar::new() });
        let asking = Arc::clone(&shared);
        // Not joined: it may be waiting for a person, and ends after its question.
        thread::Builder::new().name("ask".to_owned()).spawn(move || asking.serve(&mut asker))?;
        Ok(Self { shared })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.news.notify_one();
    }
}

impl Ask for Desk {
    fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let Some(facts) = facts_of(&miss) else { return deny.into() };
            let Some(question) = Question::about(&self.shared.policy.current(), &facts) else {
                return deny.into();
            };
            let (waiter, settled) = oneshot::channel();
            if let Err(turned_away) = self.shared.lock().line.join(question, waiter, Instant::now()) {
                return because(deny, &turned_away);
            }
            self.shared.news.notify_one();
            match settled.await {
                Ok(Settled::Allowed) => self.shared.allowed(&facts),
                Ok(Settled::Refused) => because(deny, &"the user was asked about it and said no"),
                Ok(Settled::Unanswered) => {
                    because(deny, &"the user was asked about it and did not answer in time")
                }
                Err(_) => deny.into(),
            }
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The asking thread.
    fn serve(&self, asker: &mut dyn Asker) {
        while let Some((question, behind)) = self.wait_for_next() {
            let asked = Asked { question: &question, behind, may_always: self.file.is_some() };
            let answer = asker.put(&asked).filter(|answer| asked.offers(*answer));
            let settled = match answer {
                None => Settled::Unanswered,
                Some(Answer::Deny) => Settled::Refused,
                Some(Answer::Allow(scope, term)) => {
                    self.keep(&question, scope, term).unwrap_or_else(|why| asker.tell(&why));
                    Settled::Allowed
                }
            };
            let waiting = self.lock().line.answered(settled != Settled::Allowed, Instant::now());
            for waiter in waiting {
                // Whoever has gone meanwhile gets no answer.
                let _ = waiter.send(settled);
            }
        }
    }

    fn wait_for_next(&self) -> Option<(Question, usize)> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(next) = state.line.next(|waiter| !waiter.is_closed()) {
                return Some(next);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes a yes last as long as was said. The attempts that wait pass in any case.
    fn keep(&self, question: &Question, scope: Scope, term: Term) -> Result<(), String> {
        if term == Term::Once {
            return Ok(());
        }
        // A rule for good is loaded in a moment; until then, and if it cannot be written, for the sandbox's life.
        let granted = self.policy.grant(question.clone(), scope);
        if term == Term::Sandbox {
            return granted.map_err(|error| format!("allowed once only: {error}"));
        }
        self.write_rule(question, scope).map_err(|why| {
            format!("allowed until the sandbox ends only, since no rule could be added: {why}")
        })
    }

    fn write_rule(&self, question: &Question, scope: Scope) -> Result<(), String> {
        let path = self.file.as_ref().ok_or("there is no policy file")?;
        let id = {
            let rules = self.policy.current();
            let taken = |id: &str| rules.rules().any(|rule| rule.id == id);
            (1u32..).map(|n| format!("asked-{n}")).find(|id| !taken(id)).unwrap_or_default()
        };
        let text = question
            .rule_text(scope, &id, "allowed by the user when asked")
            .ok_or("no rule says just that")?;
        let before = file::append(path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
        self.policy.try_load().map_err(|why| match before.restore() {
            Ok(()) => why,
            Err(error) => format!("{why}\n{} could not be put back: {error}", path.display()),
        })
    }

    /// The verdict for an attempt that waited, under the rules and grants of now.
    fn allowed(&self, facts: &Facts<'_>) -> Verdict {
        let rules = self.policy.current();
        let verdict = decide_granted(&rules, facts);
        verdict_of(&verdict, facts)
    }
}

fn facts_of<'a>(miss: &Miss<'a>) -> Option<Facts<'a>> {
    let facts = match miss {
        Miss::Request(facts) => request_facts(facts),
        Miss::Tcp(facts) => Facts::tcp(host(facts.authority.host()), facts.authority.port()),
        Miss::Name(name) => Facts::dns(name.as_str()),
        _ => return None,
    };
    Some(facts.at(now()))
}

fn because(mut deny: Deny, why: &dyn std::fmt::Display) -> Verdict {
    deny.reason = format!("{}; {why}", deny.reason);
    deny.into()
}

#[cfg(test)]
mod tests;
