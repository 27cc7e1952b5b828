//! One policy in three engines: ours, Cedar, and Rego (regorus, compiled for its register machine).
//!
//! The peers get their question ready made, ours makes its facts anew each time: that favours the peers. Before
//! anything is measured, all three must give the same answers.

pub mod cedar;
pub mod ours;
pub mod rego;

/// A request over https to port 443.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub method: &'static str,
    pub host: &'static str,
    pub path: &'static str,
}

/// Questions with the answer that the ten rules give.
pub const TEN: [(Question, bool); 7] = [
    (Question { method: "POST", host: "api7.example.com", path: "/v1/messages/batches" }, true),
    (Question { method: "GET", host: "api0.example.com", path: "/v1/x" }, true),
    (Question { method: "DELETE", host: "api0.example.com", path: "/v1/x" }, false),
    (Question { method: "GET", host: "api0.example.com", path: "/v2/x" }, false),
    (Question { method: "GET", host: "api1.example.com", path: "/v1/admin/x" }, false),
    (Question { method: "GET", host: "a.b.example.org", path: "/any" }, true),
    (Question { method: "POST", host: "a.b.c.example.io", path: "/v1/messages/batches" }, false),
];

/// Questions with the answer that 5,000 allowed names and 5,000 denied suffixes give.
pub const MANY: [(Question, bool); 4] = [
    (Question { method: "POST", host: "host4999.example.com", path: "/v1/messages/batches" }, true),
    (Question { method: "POST", host: "a.b.blocked4999.example.net", path: "/v1/messages/batches" }, false),
    (Question { method: "POST", host: "host5000.example.com", path: "/v1/messages/batches" }, false),
    (Question { method: "GET", host: "host0.example.com", path: "/" }, true),
];

/// Names and suffixes of [`MANY`].
pub const COUNT: usize = 5_000;
