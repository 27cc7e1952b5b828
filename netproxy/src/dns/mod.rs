//! DNS messages (RFC 1035), query bytes to answer bytes. Pure: who decides and resolves is not known here.
//!
//! An answer is written from the name and type that were understood, never copied from the query's bytes;
//! only the name's spelling is kept, since resolvers compare its case (0x20).

pub mod cache;
pub mod covert;
mod recent;
pub mod synthetic;

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::authority::{Host, HostName};
use crate::limits::DNS_UDP_BYTES_MAX;

/// RFC 8914 §4.16: blocked by the operator's policy.
const EDE_BLOCKED: u16 = 15;
/// RFC 8914 §2: the option code.
const EDE_OPTION: u16 = 15;
/// What we say we can take, in bytes; answers are far smaller.
const EDNS_PAYLOAD_BYTES: u16 = 1232;

/// What a query is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A or AAAA of this name.
    Addresses(HostName),
    /// HTTPS or SVCB: answered as "no such record", so that clients use A and AAAA and no ECH.
    Nothing(HostName),
    /// Any other type; the name, if it is a host name at all. Not served: "no such record" for an allowed
    /// name, blocked for any other.
    Type(Option<HostName>),
    /// Not one question of class IN, no standard query, or a version of EDNS that we do not know.
    Malformed,
}

/// One query.
#[derive(Debug, Clone)]
pub struct Query {
    message: Message,
    asked: Asked,
}

impl Query {
    /// Reads a query; `None` for what is not a DNS query at all.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let asked = understand(&message);
        Some(Self { message, asked })
    }

    /// What it asks for.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The record type as text (`A`, `TXT`, …).
    #[must_use]
    pub fn record_type(&self) -> String {
        self.message.queries.first().map_or_else(String::new, |query| query.query_type().to_string())
    }

    /// The largest answer that the client takes over UDP, in bytes (RFC 6891 §6.2.5).
    #[must_use]
    pub fn udp_bytes_max(&self) -> usize {
        let says = self.message.edns.as_ref().map_or(DNS_UDP_BYTES_MAX, Edns::max_payload);
        usize::from(says.clamp(DNS_UDP_BYTES_MAX, EDNS_PAYLOAD_BYTES))
    }

    /// No answer, but "ask again over TCP".
    #[must_use]
    pub fn truncated(&self) -> Option<Vec<u8>> {
        let mut response = self.response(ResponseCode::NoError);
        response.metadata.truncation = true;
        response.to_vec().ok()
    }

    /// The addresses of the family that was asked for; with none, "no such record".
    #[must_use]
    pub fn answer(&self, addresses: &[IpAddr], ttl_s: u32) -> Option<Vec<u8>> {
        let mut response = self.response(ResponseCode::NoError);
        let query = self.message.queries.first()?;
        // Of several questions none is repeated, so that records would answer nothing.
        let addresses = if self.message.queries.len() == 1 { addresses } else { &[] };
        for address in addresses {
            let data = match (query.query_type(), address) {
                (RecordType::A, IpAddr::V4(ip)) => RData::A((*ip).into()),
                (RecordType::AAAA, IpAddr::V6(ip)) => RData::AAAA((*ip).into()),
                _ => continue,
            };
            response.add_answer(Record::from_rdata(query.name().clone(), ttl_s, data));
        }
        response.to_vec().ok()
    }

    /// NXDOMAIN with EDE 15 (Blocked): stub resolvers give up at once, where REFUSED or SERVFAIL makes some
    /// ask another server. The extra text goes only to clients that speak EDNS (RFC 6891 §7).
    #[must_use]
    pub fn blocked(&self, extra_text: &str) -> Option<Vec<u8>> {
        self.refused(ResponseCode::NXDomain, extra_text)
    }

    /// "No such record", with the same extra text: NXDOMAIN would deny the name itself, and with it its addresses and all
    /// names below (RFC 8020 §2).
    #[must_use]
    pub fn not_served(&self, extra_text: &str) -> Option<Vec<u8>> {
        self.refused(ResponseCode::NoError, extra_text)
    }

    fn refused(&self, code: ResponseCode, extra_text: &str) -> Option<Vec<u8>> {
        let mut response = self.response(code);
        if let Some(edns) = &mut response.edns {
            let mut option = EDE_BLOCKED.to_be_bytes().to_vec();
            option.extend_from_slice(extra_text.as_bytes());
            edns.options_mut().insert(EdnsOption::Unknown(EDE_OPTION, option));
        }
        response.to_vec().ok()
    }

    /// NXDOMAIN, since there is no such name.
    #[must_use]
    pub fn no_such_name(&self) -> Option<Vec<u8>> {
        self.response(ResponseCode::NXDomain).to_vec().ok()
    }

    /// SERVFAIL: allowed, but the resolver failed.
    #[must_use]
    pub fn server_failure(&self) -> Option<Vec<u8>> {
        self.response(ResponseCode::ServFail).to_vec().ok()
    }

    /// BADVERS (RFC 6891 §6.1.3), NOTIMP or FORMERR.
    #[must_use]
    pub fn format_error(&self) -> Option<Vec<u8>> {
        let code = if speaks_other_edns(&self.message) {
            ResponseCode::BADVERS
        } else if self.message.metadata.op_code != OpCode::Query {
            ResponseCode::NotImp
        } else {
            ResponseCode::FormErr
        };
        self.response(code).to_vec().ok()
    }

    fn response(&self, code: ResponseCode) -> Message {
        let asked = &self.message.metadata;
        let mut response = Message::response(asked.id, asked.op_code);
        response.metadata.recursion_desired = asked.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.response_code = code;
        if let [query] = self.message.queries.as_slice() {
            response.add_query(query.clone());
        }
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_PAYLOAD_BYTES);
            response.set_edns(edns);
        }
        response
    }
}

fn understand(message: &Message) -> Asked {
    let [query] = message.queries.as_slice() else { return Asked::Malformed };
    let is_standard = message.metadata.op_code == OpCode::Query && query.query_class() == DNSClass::IN;
    if !is_standard || speaks_other_edns(message) {
        return Asked::Malformed;
    }
    let name = host_name(query.name());
    match (query.query_type(), name) {
        (RecordType::A | RecordType::AAAA, Some(name)) => Asked::Addresses(name),
        (RecordType::HTTPS | RecordType::SVCB, Some(name)) => Asked::Nothing(name),
        (_, name) => Asked::Type(name),
    }
}

/// What a later version of EDNS means by a query, we cannot know.
fn speaks_other_edns(message: &Message) -> bool {
    message.edns.as_ref().is_some_and(|edns| edns.version() > 0)
}

/// `None` for labels with dots, control bytes or anything else that no host name has.
fn host_name(name: &Name) -> Option<HostName> {
    let mut text = String::new();
    for label in name.iter() {
        if !label.iter().all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_')) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(std::str::from_utf8(label).ok()?);
    }
    match Host::parse(&text) {
        Ok(Host::Name(name)) => Some(name),
        _ => None,
    }
}
