//! A person at the controlling terminal. Never standard input: that is the sandbox's.
//!
//! Answers are whole lines, and what was typed before the question is thrown away, so that nobody says yes by typing
//! on. While a question stands, the [`Gate`] keeps a program that shares the terminal from writing over it and from
//! taking the answer. Everything shown is printable ASCII.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use policy::Scheme;
use policy::ask::{Answer, Scope, Term};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, tcflush, tcgetattr, tcgetpgrp,
    tcsetattr,
};

use super::{Asked, Asker};

/// Longest answer that is read; a longer line is none.
const ANSWER_BYTES_MAX: usize = 64;
/// Longest text of a question, in characters: it should not fill the screen.
const SHOWN_CHARS_MAX: usize = 400;
/// In the place of what is longer.
const CUT: &str = " [...]";
/// Ends what a program may have left the terminal in: an unfinished command, held output, insertion, no wrapping, margins,
/// origin mode, another character set, colours of its own, then a soft reset (which not every terminal knows), plain
/// characters, visible cursor, a new line at the end of the screen. Within margins of the program's choice the question would
/// scroll away, beneath one that the program has drawn.
const PLAIN: &str = "\x18\x1b\\\x1b[?2026l\x1b[4l\x1b[?7h\x1b[r\x1b[?6l\x1b[?69l\x1b(B\
    \x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b[999;1H\x1b[!p\x1b[0m\x0f\x1b[?25h\r\n";
/// A request's query and body are not part of the question.
const WITH_ANYTHING: &str = "  with any query, header and body\r\n";

/// Whose turn it is at the terminal. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<()>>);

impl Gate {
    /// Waits for its turn, and has it until the guard is dropped.
    pub fn enter(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its turn if nobody else does.
    #[must_use]
    pub fn try_enter(&self) -> Option<MutexGuard<'_, ()>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The terminal.
pub struct Terminal {
    tty: File,
    gate: Gate,
    program: &'static str,
    limit: Duration,
    /// It is the controlling terminal, on which a program in the background may not speak.
    controlling: bool,
}

impl Terminal {
    /// The controlling terminal of this process. `program` is who says so; no answer within `limit` is a no.
    ///
    /// # Errors
    /// There is none.
    pub fn open(program: &'static str, gate: Gate, limit: Duration) -> io::Result<Self> {
        let flags = (OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
        let tty = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
        Ok(Self { controlling: true, ..Self::over(tty, program, gate, limit)? })
    }

    fn over(tty: File, program: &'static str, gate: Gate, limit: Duration) -> io::Result<Self> {
        tcgetattr(&tty)?;
        Ok(Self { tty, gate, program, limit, controlling: false })
    }

    /// Whether anybody can be asked now: in the background, reading would stop this process.
    fn is_ours(&self) -> bool {
        !self.controlling || tcgetpgrp(&self.tty).is_ok_and(|group| group == rustix::process::getpgrp())
    }

    fn put_now(&self, asked: &Asked<'_>) -> io::Result<Option<Answer>> {
        let _turn = self.gate.enter();
        if !self.is_ours() {
            return Ok(None);
        }
        let _mode = Lines::enter(&self.tty)?;
        let deadline = Instant::now() + self.limit;
        let mut tty = &self.tty;
        tty.write_all(text_of(asked, self.program, self.limit).as_bytes())?;
        loop {
            tty.write_all(b"allow? ")?;
            let Some(line) = read_line(&self.tty, deadline)? else {
                tty.write_all(b"\r\nno answer: not allowed\r\n")?;
                return Ok(None);
            };
            match answer_of(line.trim(), asked) {
                Some(answer) => return Ok(Some(answer)),
                None => tty.write_all(b"one of the letters above, then Enter\r\n")?,
            }
        }
    }
}

impl Asker for Terminal {
    fn put(&mut self, asked: &Asked<'_>) -> Option<Answer> {
        // A terminal that has gone is nobody.
        self.put_now(asked).ok().flatten()
    }

    fn tell(&mut self, text: &str) {
        let _turn = self.gate.enter();
        if self.is_ours() {
            let shown: Vec<String> = text.lines().map(shown).collect();
            let _ = (&self.tty)
                .write_all(format!("\r\n{}: {}\r\n", self.program, shown.join("\r\n  ")).as_bytes());
        }
    }
}

/// Line input that is shown, until dropped; other modes as they were. No signals: the answer decides.
struct Lines<'a> {
    tty: &'a File,
    before: rustix::termios::Termios,
}

impl<'a> Lines<'a> {
    fn enter(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut lines = before.clone();
        lines.local_modes.insert(LocalModes::ICANON | LocalModes::ECHO);
        lines.local_modes.remove(LocalModes::ISIG | LocalModes::IEXTEN);
        lines.input_modes.insert(InputModes::ICRNL);
        lines.output_modes.insert(OutputModes::OPOST);
        // Flushes what was typed before.
        tcsetattr(tty, OptionalActions::Flush, &lines)?;
        tcflush(tty, QueueSelector::IFlush)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore. What was typed too late is not the program's.
        let _ = tcsetattr(self.tty, OptionalActions::Flush, &self.before);
    }
}

/// `None` at the deadline or the end of input.
fn read_line(tty: &File, deadline: Instant) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(tty, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0u8; ANSWER_BYTES_MAX];
        let read = rustix::io::read(tty.as_fd(), &mut bytes)?;
        let Some(read) = bytes.get(..read).filter(|read| !read.is_empty()) else { return Ok(None) };
        let room = ANSWER_BYTES_MAX.saturating_add(1).saturating_sub(line.len());
        line.extend(read.iter().take(room));
        if read.ends_with(b"\n") {
            let short = line.len() <= ANSWER_BYTES_MAX;
            return Ok(Some(if short {
                String::from_utf8_lossy(&line).into_owned()
            } else {
                "?".to_owned()
            }));
        }
    }
}

fn answer_of(line: &str, asked: &Asked<'_>) -> Option<Answer> {
    let answer = match line {
        "n" | "no" => return Some(Answer::Deny),
        "o" => Answer::Allow(Scope::Exactly, Term::Once),
        "s" => Answer::Allow(Scope::Exactly, Term::Sandbox),
        "sh" => Answer::Allow(Scope::Host, Term::Sandbox),
        "a" => Answer::Allow(Scope::Exactly, Term::Always),
        "ah" => Answer::Allow(Scope::Host, Term::Always),
        _ => return None,
    };
    offers(asked, answer).then_some(answer)
}

/// What is not shown whole is allowed once at most: nobody knows what else they would allow.
fn offers(asked: &Asked<'_>, answer: Answer) -> bool {
    let lasts = matches!(answer, Answer::Allow(Scope::Exactly, Term::Sandbox | Term::Always));
    asked.offers(answer) && !(lasts && shown(&asked.question.to_string()).ends_with(CUT))
}

fn text_of(asked: &Asked<'_>, program: &str, limit: Duration) -> String {
    let mut text = format!("{PLAIN}{program}: the sandbox wants what no rule of the policy decides\r\n");
    text += &format!("  {}\r\n", shown(&asked.question.to_string()));
    if asked.question.facts().method().is_some() {
        text += WITH_ANYTHING;
    }
    if asked.behind > 0 {
        text += &format!("  ({} more wait)\r\n", asked.behind);
    }
    let offers = |scope, term| offers(asked, Answer::Allow(scope, term));
    text += "  o   allow it once\r\n";
    if offers(Scope::Exactly, Term::Sandbox) {
        text += "  s   allow it until the sandbox ends\r\n";
    }
    let facts = asked.question.facts();
    let port = facts.port().unwrap_or_default();
    let place = format!("{}://{}:{port}", facts.scheme().map_or("tcp", Scheme::as_str), facts.host());
    let place = shown(&place);
    if offers(Scope::Host, Term::Sandbox) {
        text += &format!("  sh  allow every request to {place} until the sandbox ends\r\n");
    }
    if offers(Scope::Exactly, Term::Always) {
        text += "  a   allow it for good: a rule in your policy file\r\n";
    }
    if offers(Scope::Host, Term::Always) {
        text += &format!("  ah  allow every request to {place} for good\r\n");
    }
    text + &format!("  n   no; also after {} s without an answer\r\n", limit.as_secs())
}

/// Printable ASCII of bounded length: control characters and letters that turn others around are shown as escapes.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > SHOWN_CHARS_MAX {
            return out + CUT;
        }
        match c {
            ' '..='~' => out.push(c),
            other => out.extend(other.escape_unicode()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::thread;

    use policy::ask::Question;
    use policy::{Facts, Ruleset};

    use super::*;
    use crate::pty::Person;
    use crate::testing::question;

    fn pty(limit: Duration) -> (Terminal, Person) {
        let (tty, person) = crate::pty::pty();
        (Terminal::over(tty, "test", Gate::default(), limit).unwrap(), person)
    }

    /// Reads what is shown up to the prompt.
    fn read_prompt(person: &mut Person) -> String {
        person.read_until("allow? ")
    }

    fn answer_to(typed: &[&str], line: &str, may_always: bool) -> (Option<Answer>, String) {
        let (mut terminal, mut person) = pty(Duration::from_secs(600));
        // Typed before the question: no answer to it. That it is shown tells that it has arrived.
        person.types("a\n");
        person.read_until("\n");
        let question = question(line);
        let asked = Asked { question: &question, behind: 2, may_always };
        thread::scope(|scope| {
            let answered = scope.spawn(|| terminal.put(&asked));
            let mut seen = read_prompt(&mut person);
            for (number, line) in typed.iter().enumerate() {
                person.types(&format!("{line}\n"));
                if number + 1 < typed.len() {
                    seen += &read_prompt(&mut person);
                }
            }
            (answered.join().unwrap(), seen)
        })
    }

    #[test]
    fn a_whole_line_is_an_answer() {
        let line = "POST https://api.example.com/v1/x";
        let allow = |scope, term| Some(Answer::Allow(scope, term));
        for (typed, expected) in [
            (&["o"][..], allow(Scope::Exactly, Term::Once)),
            (&["s"], allow(Scope::Exactly, Term::Sandbox)),
            (&["sh"], allow(Scope::Host, Term::Sandbox)),
            (&["a"], allow(Scope::Exactly, Term::Always)),
            (&["ah"], allow(Scope::Host, Term::Always)),
            (&["n"], Some(Answer::Deny)),
            (
                &[
                    "",
                    "yes",
                    "O",
                    "oo",
                    "o s",
                    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss",
                    "n",
                ],
                Some(Answer::Deny),
            ),
        ] {
            assert_eq!(answer_to(typed, line, true).0, expected, "{typed:?}");
        }
        let (answer, seen) = answer_to(&["a", "ah", "s"], line, false);
        assert_eq!(answer, allow(Scope::Exactly, Term::Sandbox));
        let asked =
            "  POST https://api.example.com/v1/x\n  with any query, header and body\n  (2 more wait)\n";
        assert!(seen.contains(asked), "{seen}");
        // Margins of a program's choice are gone before anything is shown.
        assert!(seen.find("\x1b[r").unwrap() < seen.find("POST").unwrap(), "{seen:?}");
        assert!(seen.contains("until the sandbox ends") && !seen.contains("for good"), "{seen}");
    }

    #[test]
    fn raw_bytes_and_names_have_no_wider_answer() {
        for line in ["TCP db.example.com:5432", "DNS db.example.com"] {
            let (answer, seen) = answer_to(&["sh", "o"], line, false);
            assert_eq!(answer, Some(Answer::Allow(Scope::Exactly, Term::Once)), "{line}");
            assert!(seen.contains(line) && !seen.contains("every request"), "{seen}");
        }
    }

    #[test]
    fn what_is_not_shown_whole_is_allowed_once_at_most() {
        let line = format!("GET https://api.example.com/{}", "a".repeat(SHOWN_CHARS_MAX));
        let (answer, seen) = answer_to(&["s", "a", "o"], &line, true);
        assert_eq!(answer, Some(Answer::Allow(Scope::Exactly, Term::Once)));
        assert!(
            seen.contains(CUT) && !seen.contains("allow it until") && !seen.contains("allow it for good"),
            "{seen}"
        );
        assert!(seen.contains("every request to https://api.example.com:443 until"), "{seen}");
    }

    #[test]
    fn silence_and_a_hang_up_are_no_answer() {
        let (mut terminal, mut person) = pty(Duration::ZERO);
        let question = question("GET https://a.example/");
        let asked = Asked { question: &question, behind: 0, may_always: true };
        assert_eq!(terminal.put(&asked), None);
        assert!(read_prompt(&mut person).contains("GET https://a.example/"));
        let (mut terminal, person) = pty(Duration::from_secs(600));
        drop(person);
        assert_eq!(terminal.put(&asked), None);
    }

    #[test]
    fn the_mode_of_the_terminal_is_as_before() {
        let (mut terminal, mut person) = pty(Duration::ZERO);
        let mut raw = tcgetattr(&terminal.tty).unwrap();
        raw.make_raw();
        tcsetattr(&terminal.tty, OptionalActions::Now, &raw).unwrap();
        let before = format!("{:?}", tcgetattr(&terminal.tty).unwrap());
        let question = question("GET https://a.example/");
        terminal.put(&Asked { question: &question, behind: 0, may_always: true });
        assert_eq!(format!("{:?}", tcgetattr(&terminal.tty).unwrap()), before);
        read_prompt(&mut person);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_or_that_turns_text_around_is_shown() {
        for hostile in ["\x1b[2J", "\u{9b}2J", "\u{202e}moc.elpmaxe", "a\rb", "\u{200b}", "\u{7f}"] {
            let text = shown(hostile);
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
        }
        assert!(shown(&"x".repeat(100_000)).len() < 1000);
        // A question can only be about canonical facts; its path is escaped all the same.
        assert!(
            Question::about(&Ruleset::empty(), &Facts::parse("GET https://a.example/\u{202e}").unwrap())
                .is_none()
        );
    }

    #[test]
    fn whoever_shares_the_terminal_waits_while_a_question_stands() {
        let (mut terminal, mut person) = pty(Duration::from_secs(600));
        let gate = terminal.gate.clone();
        let question = question("GET https://a.example/");
        thread::scope(|scope| {
            let asked = Asked { question: &question, behind: 0, may_always: true };
            let answered = scope.spawn(move || terminal.put(&asked));
            read_prompt(&mut person);
            assert!(gate.try_enter().is_none());
            person.types("n\n");
            assert_eq!(answered.join().unwrap(), Some(Answer::Deny));
        });
        assert!(gate.try_enter().is_some());
    }
}
