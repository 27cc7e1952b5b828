//! From a request to what `execve` takes: environment, candidates along `PATH`, C strings. Pure.
//!
//! Must run before `fork`: the child of a process with threads may not allocate.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};

use crate::proto::{Bytes, ExecRequest};

/// Used when neither the request nor the defaults have one.
const PATH_DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL: &str = "/bin/sh";

/// A program, ready for `execve`.
#[derive(Debug)]
pub(super) struct Program {
    /// What to try, in order.
    pub candidates: Vec<CString>,
    /// Arguments, the name as given first.
    pub argv: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: CString,
    /// Runs a script that has no `#!` line, as `execvp` and every shell do.
    pub shell: CString,
}

impl Program {
    /// Merges the environments and lays out the candidates.
    pub(super) fn new(request: &ExecRequest, defaults: &[(Bytes, Bytes)]) -> Result<Self, NulError> {
        let merged: BTreeMap<&[u8], &[u8]> = defaults
            .iter()
            .chain(&request.env)
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        let path = merged.get(b"PATH".as_slice()).copied().unwrap_or(PATH_DEFAULT);
        let name = request.argv.first().map(Bytes::as_slice).unwrap_or_default();
        let cwd = if request.cwd.is_empty() { b"/" } else { request.cwd.as_slice() };
        Ok(Self {
            candidates: candidates(name, path).into_iter().map(CString::new).collect::<Result<_, _>>()?,
            argv: request.argv.iter().map(|a| CString::new(a.as_slice())).collect::<Result<_, _>>()?,
            env: merged
                .iter()
                .map(|(name, value)| CString::new([name, b"=".as_slice(), value].concat()))
                .collect::<Result<_, _>>()?,
            cwd: CString::new(cwd)?,
            shell: CString::new(SHELL)?,
        })
    }
}

/// Empty entries of `PATH`, which mean the working directory, are skipped: in a shared workspace they would let a
/// file that happens to be called `ls` run.
fn candidates(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    path.split(|b| *b == b':').filter(|dir| !dir.is_empty()).map(|dir| [dir, b"/", name].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[CString]) -> Vec<&str> {
        list.iter().map(|s| s.to_str().unwrap()).collect()
    }

    #[test]
    fn a_plain_name_is_tried_along_path_and_the_request_wins() {
        let mut request = ExecRequest::new(["ls", "-l"]);
        request.env = vec![("PATH".into(), "/a::/b".into()), ("X".into(), "2".into())];
        let defaults = [("PATH".into(), "/c".into()), ("X".into(), "1".into()), ("Y".into(), "".into())];
        let program = Program::new(&request, &defaults).unwrap();
        assert_eq!(strings(&program.candidates), ["/a/ls", "/b/ls"]);
        assert_eq!(strings(&program.env), ["PATH=/a::/b", "X=2", "Y="]);
        assert_eq!(strings(&program.argv), ["ls", "-l"]);
        assert_eq!(program.cwd.to_str(), Ok("/"));
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is_and_path_has_a_default() {
        let program = Program::new(&ExecRequest::new(["./run"]), &[]).unwrap();
        assert_eq!(strings(&program.candidates), ["./run"]);
        let program = Program::new(&ExecRequest::new(["sh"]), &[]).unwrap();
        assert!(strings(&program.candidates).contains(&"/usr/bin/sh"));
    }
}
