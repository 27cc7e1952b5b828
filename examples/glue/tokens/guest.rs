//! A tool of the guest that renews the sandbox's login by itself. The host asks in its place, in words of its own, and
//! gives it placeholders: nothing else of the token server's answer reaches the guest, no field and no byte that is not
//! understood. A tool that asks again too soon is given the token in use.

use std::sync::Arc;

use bytes::Bytes;
use credvault::{Masked, OAuthError, TokenLooks, mask_token_answer, os_clock, os_random};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use netproxy::hooks::{Decided, Inject, InjectError, Injected, RequestHead};
use serde_json::json;

use super::asked::{Asked, asks_to_renew};
use super::{Renewals, Renewed, Turn};
use crate::inject::Place;
use crate::services::refresh_name;

/// The guest's fields that go up: who the client is, and which version of an interface it speaks. Any other could change
/// how the answer is written, and one that the host cannot read is a login lost.
fn goes_up(name: &str) -> bool {
    let vendors = ["anthropic-beta", "anthropic-version", "originator", "x-app", "x-goog-api-client"];
    name == USER_AGENT || name == AUTHORIZATION || vendors.contains(&name)
}

impl Renewals {
    /// Whose login this request asks to renew, and how it is sent; `None` if it is for no token server whose answers the
    /// host keeps.
    pub(super) fn login_asked_for(
        &self,
        decided: &Decided<'_>,
        head: &RequestHead,
    ) -> Result<Option<(usize, Asked)>, InjectError> {
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
                && let Some(body) = &head.body
                && let Some(asked) = asks_to_renew(&head.headers, body, own.as_str())
            {
                return Ok(Some((number, asked)));
            }
            let reason = format!(
                "the token server of `{name}` may only be asked to renew this sandbox's own login \
                 (no query; a form, or JSON if Content-Type says so, without nesting; one grant_type=refresh_token \
                 with one refresh_token, its placeholder)"
            );
            refused.get_or_insert(InjectError::Refused { reason });
        }
        refused.map_or(Ok(None), Err)
    }

    /// What a tool is answered that asks again too soon.
    fn in_use(&self, renewed: &Renewed) -> Option<Response<Bytes>> {
        let now_s = os_clock();
        if renewed.pace().lets_ask(now_s) {
            return None;
        }
        let Renewed { name, .. } = renewed;
        let (access, refresh) = (self.vault.placeholder(name)?, self.vault.placeholder(&refresh_name(name))?);
        let life = self.vault.version(name).and_then(|(_, end)| end?.checked_sub(now_s));
        let Some(life) = life.filter(|life| *life > 0) else {
            return Some(failure(503, "temporarily_unavailable"));
        };
        let token = json!({ "access_token": access.as_str(), "token_type": "Bearer", "expires_in": life,
                            "refresh_token": refresh.as_str() });
        Some(json(StatusCode::OK, token.to_string().into_bytes()))
    }

    /// Asks the token server for the guest, keeps what it answers, and tells the user how that ended.
    async fn ask_for_guest(&self, number: usize, sent: Sent, _turn: Turn) -> Response<Bytes> {
        let Some(renewed) = self.sources.get(number) else { return failure(502, "server_error") };
        let tell = |end: &dyn std::fmt::Display| {
            let name = &renewed.name;
            (self.report)(format!("credential `{name}`: a tool of the sandbox asked to renew it: {end}"));
        };
        renewed.pace().asked(os_clock());
        let answered = self.fetch.post(renewed.source.endpoint(), sent.headers, sent.body).await;
        let (status, body) = match answered {
            Ok(answer) => answer,
            Err(error) => {
                tell(&format_args!("{error}; if it was reached, the refresh token is used up"));
                return failure(504, "temporarily_unavailable");
            }
        };
        let masked = self.mask(renewed, (status, &body)).await;
        match &masked {
            Ok((_, Ok(()))) => tell(&"it was renewed"),
            Ok((_, Err(error))) => tell(error),
            Err(error) => tell(error),
        }
        match masked {
            Ok((body, _)) => json(status, body),
            // Some servers refuse with status 200.
            Err(OAuthError::Refused { code, .. }) if code != "none" => failure(status.as_u16(), &code),
            Err(_) if status.is_client_error() || status.is_server_error() => {
                failure(status.as_u16(), "server_error")
            }
            Err(_) => failure(502, "server_error"),
        }
    }

    /// What the guest may see of an answer, and whether the host could keep the rest. One that is not understood does not
    /// pass: it could hold tokens.
    pub(super) async fn mask(
        &self,
        renewed: &Renewed,
        (status, body): (StatusCode, &[u8]),
    ) -> Result<(Vec<u8>, Result<(), String>), OAuthError> {
        let Renewed { name, source, .. } = renewed;
        let (access, refresh) = (self.vault.placeholder(name), self.vault.placeholder(&refresh_name(name)));
        let (Some(access), Some(refresh)) = (access, refresh) else { return Err(OAuthError::Answer) };
        let looks = TokenLooks { access, refresh };
        let answer = (status.as_u16(), body);
        let Masked { body, token } = mask_token_answer(os_clock(), answer, looks, &mut os_random)?;
        source.learn(&token);
        Ok((body, self.take(renewed, token).await))
    }
}

/// What the host sends, with the refresh token put in.
struct Sent {
    headers: HeaderMap,
    body: Bytes,
}

/// Has the refresh token put in by `inner`, and the host ask for the guest.
pub(super) async fn inject(
    renewals: &Arc<Renewals>,
    (number, asked): (usize, Asked),
    (inner, decided, head): (&dyn Inject, &Decided<'_>, &mut RequestHead),
) -> Result<Injected, InjectError> {
    let Some(renewed) = renewals.sources.get(number) else { return inner.inject(decided, head).await };
    let given = |head: &mut RequestHead, answer| {
        head.answer = Some(Box::pin(std::future::ready(answer)));
        Ok(Injected::default())
    };
    // Where there is no token to give, one under way may bring it.
    if let Some(answer) = renewals.in_use(renewed).filter(|answer| answer.status().is_success()) {
        return given(head, answer);
    }
    // Before the token is put in: a renewal under way replaces it.
    let turn = turn(renewals, renewed).await.map_err(|reason| InjectError::Refused { reason })?;
    // Whoever had the turn may have asked.
    if let Some(answer) = renewals.in_use(renewed) {
        return given(head, answer);
    }
    let Asked { content_type, body } = asked;
    let guests = std::mem::take(&mut head.headers);
    head.headers.extend(
        guests
            .iter()
            .filter(|(name, _)| goes_up(name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    head.body = Some(body.into());
    let injected = inner.inject(decided, head).await?;
    let mut headers = std::mem::take(&mut head.headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let sent = Sent { headers, body: head.body.take().unwrap_or_default() };
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
