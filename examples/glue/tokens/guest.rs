//! A tool of the guest that renews the sandbox's login by itself. The host asks in its place, with what the tool sent, and
//! gives it placeholders: nothing else of the token server's answer reaches the guest, no field and no byte that is not
//! understood.

use std::sync::Arc;

use bytes::Bytes;
use credvault::{Masked, OAuthError, TokenLooks, mask_token_answer, os_clock, os_random};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use netproxy::hooks::{Decided, Inject, InjectError, Injected, RequestHead};

use super::asked::asks_to_renew;
use super::{Renewals, Renewed, Turn};
use crate::inject::Place;
use crate::services::refresh_name;

impl Renewals {
    /// Whose login this request asks to renew; `None` if it is for no token server whose answers the host keeps.
    pub(super) fn login_asked_for(
        &self,
        decided: &Decided<'_>,
        head: &RequestHead,
    ) -> Result<Option<usize>, InjectError> {
        let place = Place::of(decided, Some(head));
        let target = place.target(decided);
        let mut refused = None;
        for (number, Renewed { name, .. }) in self.sources.iter().enumerate() {
            let Some(own) = self.vault.placeholder(&refresh_name(name)) else { continue };
            if !self.vault.covers(&refresh_name(name), &target) {
                continue;
            }
            // Servers that read the query as well would take the login from there.
            if head.query.is_none()
                && head.body.as_deref().is_some_and(|body| asks_to_renew(body, own.as_str()))
            {
                return Ok(Some(number));
            }
            let reason = format!(
                "the token server of `{name}` may only be asked to renew this sandbox's own login \
                 (no query; one grant_type=refresh_token with one refresh_token, its placeholder)"
            );
            refused.get_or_insert(InjectError::Refused { reason });
        }
        refused.map_or(Ok(None), Err)
    }

    /// Asks the token server for the guest, and keeps what it answers.
    async fn ask_for_guest(&self, number: usize, head: Sent, _turn: Turn) -> Response<Bytes> {
        let Some(renewed) = self.sources.get(number) else { return failure(502, "server_error") };
        let answered = self.fetch.post(renewed.source.endpoint(), head.headers, head.body).await;
        let Ok((status, body)) = answered else { return failure(504, "temporarily_unavailable") };
        match self.mask(renewed, &body).await {
            Ok(body) => json(status, body),
            // Some servers refuse with status 200.
            Err(OAuthError::Refused { code, .. }) if code != "none" => failure(status.as_u16(), &code),
            Err(_) if status.is_client_error() || status.is_server_error() => {
                failure(status.as_u16(), "server_error")
            }
            Err(_) => failure(502, "server_error"),
        }
    }

    /// What the guest may see of an answer; the host keeps the rest. One that is not understood does not pass: it could
    /// hold tokens.
    pub(super) async fn mask(&self, renewed: &Renewed, body: &[u8]) -> Result<Vec<u8>, OAuthError> {
        let Renewed { name, source, .. } = renewed;
        let (access, refresh) = (self.vault.placeholder(name), self.vault.placeholder(&refresh_name(name)));
        let (Some(access), Some(refresh)) = (access, refresh) else { return Err(OAuthError::Answer) };
        let looks = TokenLooks { access, refresh };
        let Masked { body, token } = mask_token_answer(os_clock(), body, looks, &mut os_random)?;
        source.learn(&token);
        // Only a token that cannot stand in a header is refused, and that was checked when it was read.
        let _ = self.take(name, token).await;
        Ok(body)
    }
}

/// What the guest sent, with the refresh token put in.
struct Sent {
    headers: http::HeaderMap,
    body: Bytes,
}

/// Has the refresh token put in by `inner`, and the host ask for the guest.
pub(super) async fn inject(
    renewals: &Arc<Renewals>,
    number: usize,
    (inner, decided, head): (&dyn Inject, &Decided<'_>, &mut RequestHead),
) -> Result<Injected, InjectError> {
    let Some(renewed) = renewals.sources.get(number) else { return inner.inject(decided, head).await };
    // Before the token is put in: a renewal under way replaces it.
    let turn = turn(renewals, renewed).await.map_err(|reason| InjectError::Refused { reason })?;
    let injected = inner.inject(decided, head).await?;
    let sent =
        Sent { headers: std::mem::take(&mut head.headers), body: head.body.take().unwrap_or_default() };
    let renewals = Arc::clone(renewals);
    head.answer = Some(Box::pin(async move { renewals.ask_for_guest(number, sent, turn).await }));
    Ok(injected)
}

/// No more than one of the guest's waits for it beside the host's: many could keep the host from its own.
pub(super) async fn turn(renewals: &Renewals, renewed: &Renewed) -> Result<Turn, String> {
    let _next = renewed.guests.lock().await;
    renewals.turn(renewed).await
}

fn failure(status: u16, code: &str) -> Response<Bytes> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    json(status, format!("{{\"error\":\"{code}\"}}").into_bytes())
}

/// As RFC 6749 §5.1 has it.
fn json(status: StatusCode, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
