//! The operations, grouped by what they work on. Each file adds methods to `Server`.

mod attributes;
mod content;
mod listing;
mod names;
