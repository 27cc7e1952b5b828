//! `agent-sandbox policy …`: asks the policy without starting anything. Every verb decides by the function that
//! enforces; what is done here is reading, and showing.

mod check;
pub mod cli;
mod diff;
mod lint;
mod load;
mod log;
mod show;
mod suggest;
mod test;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Result;
use cli::{PolicyArgs, PolicyVerb};

/// Exit code 0 for yes, 1 for no.
pub fn policy(args: &PolicyArgs) -> Result<u8> {
    match &args.verb {
        PolicyVerb::Check(check) => check::check(check, args.json),
        PolicyVerb::Test(files) => test::test(files, args.json),
        PolicyVerb::Lint(lint) => lint::lint(lint, args.json),
        PolicyVerb::Diff(diff) => diff::diff(diff, args.json),
        PolicyVerb::Suggest(suggest) => suggest::suggest(suggest, args.json),
        PolicyVerb::Show(files) => show::show(files, args.json),
        PolicyVerb::Schema => show::schema(),
    }
}

/// Seconds since 1970: what `--at` says, or now. A clock before that is no clock: what expires has.
fn moment(at: Option<i64>) -> i64 {
    at.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        since.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
    })
}

/// `1 test`, `2 tests`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
