//! Keeps secrets, hands out placeholders and turns a placeholder into a credential at the last moment.
