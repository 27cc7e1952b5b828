//! The public API, driven by case files and by rules and facts that nobody thought of.

mod addresses;
mod allocations;
mod ask;
mod audit_mode;
mod builder;
mod cases;
mod ceilings;
mod json;
mod keys;
mod lint;
#[cfg(feature = "live")]
mod live;
mod load_errors;
mod naive;
mod plain_text;
mod properties;
mod readme;
mod suggest;
