//! The text of one file with the beginnings of its lines: from a byte to the place a person is told.

use std::sync::Arc;

use crate::error::{Location, PolicyError};

#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) name: Arc<str>,
    text: Box<str>,
    line_starts: Vec<usize>,
}

impl Text {
    pub(crate) fn new(name: Arc<str>, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = breaks.map(|(at, _)| at.saturating_add(1));
        Self { name, text: text.into(), line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// From 1. Offsets beyond the text mean its end.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    pub(crate) fn locate(&self, offset: usize) -> Location {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or("");
        let content = rest.lines().next().unwrap_or("");
        let before = content.get(..offset.saturating_sub(start)).unwrap_or(content);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Location {
            file: Arc::clone(&self.name),
            line: number(line),
            column: number(before.chars().count().saturating_add(1)),
            text: Some(content.into()),
        }
    }

    pub(crate) fn syntax(&self, offset: usize, message: String) -> PolicyError {
        PolicyError::Syntax { at: self.locate(offset), message }
    }
}
