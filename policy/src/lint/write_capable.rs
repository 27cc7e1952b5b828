//! Rules that say of themselves that what is sent there could be read by others.

use super::{Code, Finding, Severity, Subject};

pub(super) fn check<'r>(subject: &Subject<'r>) -> Vec<Finding<'r>> {
    let labelled = subject.grants().filter(|rule| rule.write_capable);
    let about = |rule| {
        let text = "lets data out to where others could read it (write_capable = true); leave it out where the sandbox \
                    only has to read, or narrow `methods` and `paths`";
        Finding::new(Code::WriteCapable, Severity::Note, rule, text)
    };
    labelled.map(about).collect()
}
