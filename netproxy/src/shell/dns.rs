//! DNS streams: each query decided, resolved through the same hook and judged by the same guard as a
//! connection. No query of the guest ever leaves this process as it came.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::reach::{guard_refusal, resolve_failure};
use super::shared::{Decision, Shared};
use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::authority::{Host, HostName};
use crate::dns::{Asked, Query};
use crate::hooks::{AddressFacts, Allow, ResolveError, Verdict};
use crate::limits::DNS_QUERY_BYTES_MAX;
use crate::refuse::{Kind, Refusal, Subject, dns_extra_text};

pub async fn serve<S>(shared: &Arc<Shared>, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut query = Vec::with_capacity(DNS_QUERY_BYTES_MAX);
    loop {
        let read = timeout(shared.limits.idle_timeout, read_query(&mut stream, &mut query)).await;
        if !matches!(read, Ok(Ok(true))) {
            return;
        }
        // What is not even a query is not worth an answer, nor is its sender worth a connection.
        let Some(answer) = answer(shared, &query).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        if stream.write_all(&framed).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read_query<S: AsyncRead + Unpin>(stream: &mut S, query: &mut Vec<u8>) -> std::io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > DNS_QUERY_BYTES_MAX {
        return Ok(false);
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    Ok(true)
}

pub async fn answer(shared: &Shared, bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Query::parse(bytes)?;
    let decision = shared.begin();
    let name = match query.asked() {
        Asked::Malformed => return query.format_error(),
        Asked::Type(None) => return refuse(shared, &decision, &query, (None, not_served(&query))),
        Asked::Type(Some(name)) | Asked::Addresses(name) | Asked::Nothing(name) => name,
    };
    let allow = match shared.authorize.dns_name(name) {
        Verdict::Allow(allow) => allow,
        Verdict::Deny(deny) => {
            return refuse(shared, &decision, &query, (Some(name), Refusal::policy(Layer::Dns, deny)));
        }
    };
    match query.asked() {
        Asked::Nothing(_) => {
            record(shared, &decision, &query, (name, &allow));
            return query.answer(&[], shared.limits.dns_ttl_s);
        }
        Asked::Type(_) => {
            // Audited as refused, answered as "no such record": NXDOMAIN would deny the name itself, and with it
            // its addresses and all names below (RFC 8020 §2).
            refuse(shared, &decision, &query, (Some(name), not_served(&query)));
            return query.answer(&[], shared.limits.dns_ttl_s);
        }
        Asked::Addresses(_) | Asked::Malformed => {}
    }
    let resolved = timeout(shared.limits.resolve_timeout, shared.resolve.resolve(name))
        .await
        .unwrap_or(Err(ResolveError::Timeout))
        .map_err(resolve_failure);
    let host = Host::Name(name.clone());
    let judged = resolved.and_then(|addresses| {
        let admits = |address, special| {
            shared.authorize.address(&AddressFacts { host: &host, port: None, address, special })
        };
        shared.guard.check_answer(&host, &addresses, &admits).map_err(|error| guard_refusal(&error))
    });
    match judged {
        Ok(addresses) => {
            record(shared, &decision, &query, (name, &allow));
            query.answer(&addresses, shared.limits.dns_ttl_s)
        }
        Err(refusal) => {
            let refusal = refusal.under(Some(Arc::clone(&allow.rule)));
            refuse(shared, &decision, &query, (Some(name), refusal))
        }
    }
}

fn not_served(query: &Query) -> Refusal {
    let detail = format!("DNS records of type {} are not served here", query.record_type());
    Refusal::new(Kind::Policy, Layer::Dns, detail)
}

fn refuse(
    shared: &Shared,
    decision: &Decision,
    query: &Query,
    (name, refusal): (Option<&HostName>, Refusal),
) -> Option<Vec<u8>> {
    let subject = Subject {
        host: name.map(ToString::to_string),
        method: Some(query.record_type()),
        ..Subject::default()
    };
    let refusal = refusal.about(subject);
    let extra = dns_extra_text(&refusal, &decision.id);
    let answer = match refusal.kind {
        Kind::Policy | Kind::SpecialAddress => query.blocked(&extra),
        Kind::NameNotFound => query.no_such_name(),
        _ => query.server_failure(),
    };
    shared.record_refusal(decision, &refusal, false);
    answer
}

fn record(shared: &Shared, decision: &Decision, query: &Query, (name, allow): (&HostName, &Allow)) {
    let mut record = Record::new(decision.time, decision.id.clone(), Layer::Dns, Outcome::Allow);
    record.rule = Some(Arc::clone(&allow.rule));
    record.host = Some(name.to_string());
    record.method = Some(query.record_type());
    record.ms_total = milliseconds(decision.started.elapsed());
    shared.audit.record(record);
}
