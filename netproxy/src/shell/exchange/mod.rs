//! One request: understand, ask, inject, send, redact, record. Every front door ends here.

pub mod body;
pub mod held;
pub mod inject;
pub mod opaque;
pub mod own_answer;
pub mod search;
pub mod websocket;

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRAILER, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::{self, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;
use hyper::ext::ReasonPhrase;

use self::body::{Passing, Reply, RequestBody};
use self::inject::inject;
use self::search::Search;
use self::websocket::Session;
use super::client::http1::Client;
use super::ledger::Ledger;
use super::recordable::Recordable;
use super::shared::{Decision, Shared};
use super::stream::incoming::Incoming;
use super::upstream::pool::Place;
use super::upstream::{self, Arrived};
use crate::audit::Layer;
use crate::coding::accept_only_decodable;
use crate::fields::{has, remove};
use crate::flow::{self, make_redactable, strip_hop_by_hop};
use crate::hooks::{Allow, Decided, OnOpaque, OwnAnswer, RequestHead, Scheme, Verdict};
use crate::http2;
use crate::id::DecisionId;
use crate::refuse::{Kind, Refusal, Subject, http_response, shows_words_only, strip_forged_proxy_status};
use crate::trailers::{self, Trailers};
use crate::wire;
use crate::wire::target::Target;

/// Answers one request, whatever it is.
pub async fn answer(client: &Client, request: Request<Incoming>) -> Response<Reply> {
    client.count_request(ends_connection(&request));
    let version = request.version();
    let words = shows_words_only(request.headers());
    let decision = client.shared.begin();
    match decision.span.clone().around(exchange(client, request, &decision)).await {
        Ok(response) => response,
        Err(mut refusal) => {
            refusal.words = words;
            client.close_after();
            refuse(client, &refusal, (&decision, version))
        }
    }
}

/// Answers with a refusal, and records it.
pub fn refuse(
    client: &Client,
    refusal: &Refusal,
    (decision, version): (&Decision, Version),
) -> Response<Reply> {
    client.shared.record_refusal(decision, refusal, true);
    as_answer(refusal, (decision, version))
}

fn as_answer(refusal: &Refusal, (decision, version): (&Decision, Version)) -> Response<Reply> {
    let mut response = http_response(refusal, &decision.id).map(|body| Reply::Whole(Some(body)));
    if version == Version::HTTP_2 {
        // RFC 9113 §8.2.2: there it is malformed; the stream ends, and others go on.
        response.headers_mut().remove(CONNECTION);
    } else if let Ok(phrase) = ReasonPhrase::try_from(refusal.kind.reason_phrase().as_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// Whether the client says that this is its last request (RFC 9112 §9.3).
fn ends_connection(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let says = |option: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|given| given.trim().eq_ignore_ascii_case(option))
    };
    (has(headers, &CONNECTION) && says("close"))
        || (request.version() == Version::HTTP_10 && !says("keep-alive"))
}

async fn exchange(
    client: &Client,
    request: Request<Incoming>,
    decision: &Decision,
) -> Result<Response<Reply>, Box<Refusal>> {
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let request = understand(client, &parts)?;
    let shared = &client.shared;
    let slowly = |refusal: Box<Refusal>| Box::new(refusal.about(request.subject()));
    shared.limiter.request(&shared.limits, decision.started).map_err(slowly)?;
    // Before the verdict: what is dialled under an older policy serves no later request.
    let epoch = shared.pool.epoch();
    let allow = decide(shared, decision, &request).await?;
    shared
        .limiter
        .rule_request(&allow, decision.started)
        .map_err(|refusal| Box::new(refusal.about(request.subject()).after(&allow)))?;
    let mut ledger = Ledger::open(shared, decision, Layer::Http, (&allow, request.subject()));
    let place = Place {
        scheme: request.scheme,
        authority: request.authority.clone(),
        via: allow.upstream.clone(),
        // What the policy refuses and only records goes in nobody's name.
        certified: allow.would_deny.is_none() || !shared.client_certificates.has(request.authority.host()),
        epoch,
    };
    let asked = Asked { parts, body, request: &request, allow: &allow, place: &place, decision };
    match forward(client, asked, &mut ledger).await {
        Ok(Came::Upstream(arrived, search))
            if arrived.response.status() == StatusCode::SWITCHING_PROTOCOLS =>
        {
            Ok(switch(client, arrived.response, search, (request, allow, decision.id.clone(), ledger)))
        }
        Ok(Came::Upstream(arrived, search)) => Ok(pass_back(arrived.response, search, place, ledger)),
        Ok(Came::Own(answer)) => {
            let decided = Decided { request: request.facts(), allow: &allow, decision_id: &decision.id };
            // Boxed: other requests do not carry its room about.
            Box::pin(own_answer::give(answer, &decided, ledger))
                .await
                .map_err(|refusal| Box::new(refusal.about(request.subject()).after(&allow)))
        }
        Err(mut refusal) => {
            if ledger.is_unheard() {
                // That is what is recorded, when the ledger is dropped.
                client.close_after();
                return Ok(as_answer(&refusal, (decision, version)));
            }
            // What the upstream made of a body that was cut off is not what went wrong.
            if let Some(cut) = ledger.body_cut() {
                refusal = cut;
            }
            ledger.give_up(&mut refusal.before);
            Err(Box::new(refusal.about(request.subject()).after(&allow)))
        }
    }
}

async fn decide(
    shared: &Shared,
    decision: &Decision,
    request: &flow::Request,
) -> Result<Allow, Box<Refusal>> {
    let mut undecided = Undecided { shared, decision, request: Some(request) };
    let decided = loop {
        let allow = match shared.may_request(&request.facts()).await {
            Verdict::Allow(allow) => allow,
            Verdict::Deny(deny) => break Err(Refusal::policy(Layer::Http, deny)),
        };
        match shared.recordable(Layer::Http).await {
            Ok(Recordable::AtOnce) => break Ok(allow),
            // The policy may be another by now.
            Ok(Recordable::AfterWaiting) => {}
            Err(refusal) => break Err(refusal.after(&allow)),
        }
    };
    undecided.request = None;
    decided.map_err(|refusal| Box::new(refusal.about(request.subject())))
}

/// Somebody may have to be asked, or the log be waited for. Whoever does not wait that long has asked all the same.
struct Undecided<'a> {
    shared: &'a Shared,
    decision: &'a Decision,
    /// `None` once there is a verdict.
    request: Option<&'a flow::Request>,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            let subject = (Layer::Http, request.subject());
            self.shared.record_unheard(self.decision, subject, self.shared.control.who_is_gone());
        }
    }
}

pub fn understand(client: &Client, parts: &Parts) -> Result<flow::Request, Box<Refusal>> {
    if parts.version == Version::HTTP_2 {
        http2::check(&parts.method, &parts.uri, &parts.headers).map_err(|error| {
            let (host, method) = (client.subject(), Some(flow::method_text(parts.method.as_str())));
            Box::new(Refusal::head(error).about(Subject { method, ..host }))
        })?;
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let scheme = parts.uri.scheme().and_then(scheme_of);
    let target = match (scheme, parts.uri.authority(), parts.uri.path_and_query()) {
        // Origin form.
        (_, None, Some(path)) => Target::parse(path.as_str()),
        (Some(scheme), Some(authority), Some(path)) => {
            Target::of_url(scheme, authority.as_str(), path.as_str())
        }
        _ => Target::parse(&parts.uri.to_string()),
    };
    let mut request = flow::understand(client.door(), parts.method.as_str(), target, host)?;
    if let Some(field) = flow::overriding_field(&parts.headers) {
        let detail = format!("the field {field} asks for another method or path than the one that is judged");
        let refusal = Refusal::new(Kind::Malformed, Layer::Http, detail);
        return Err(Box::new(refusal.about(request.subject())));
    }
    let is_http11 = parts.version == Version::HTTP_11;
    request.websocket =
        wire::websocket::is_upgrade(&parts.method, is_http11, &parts.headers).map_err(|error| {
            let refusal = Refusal::new(Kind::Malformed, Layer::Http, error.to_string());
            Box::new(refusal.about(request.subject()))
        })?;
    Ok(request)
}

fn scheme_of(scheme: &uri::Scheme) -> Option<Scheme> {
    let all = [(uri::Scheme::HTTP, Scheme::Http), (uri::Scheme::HTTPS, Scheme::Https)];
    all.into_iter().find(|(named, _)| named == scheme).map(|(_, ours)| ours)
}

/// An allowed request, on its way.
struct Asked<'a> {
    parts: Parts,
    body: Incoming,
    request: &'a flow::Request,
    allow: &'a Allow,
    place: &'a Place,
    decision: &'a Decision,
}

/// What there is to answer with.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and moved once")]
enum Came {
    Upstream(Arrived, Option<Search>),
    /// A hook's, which it has yet to get.
    Own(OwnAnswer),
}

async fn forward(client: &Client, asked: Asked<'_>, ledger: &mut Ledger) -> Result<Came, Box<Refusal>> {
    let shared = &client.shared;
    let facts = asked.request.facts();
    let (trailers, length) =
        (Trailers::of(&asked.parts.headers), asked.parts.headers.get(CONTENT_LENGTH).map(written_anew));
    let decided = Decided { request: facts, allow: asked.allow, decision_id: &asked.decision.id };
    let mut head = RequestHead::new(end_to_end(asked.parts.headers), asked.request.target.query.clone());
    if asked.parts.version == Version::HTTP_2 {
        http2::join_cookies(&mut head.headers);
    }
    // A length that is too large is refused before anything is dialled.
    let most = body_bytes_max(shared, asked.allow);
    if let Some(most) = most
        && asked.body.size_hint().lower() > most
    {
        return Err(Box::new(body_too_large(most)));
    }
    // Before the credential: a signature may cover these fields.
    let (searches, mut lease) = (shared.redact.searches(&decided), None);
    let parts = searches && (asked.allow.on_opaque == OnOpaque::Pass || shared.redact.allows_parts(&decided));
    if searches {
        make_redactable(&mut head.headers, parts);
        lease = accept_only_decodable(&mut head.headers, &shared.coding);
    }
    let (body, length) = inject(shared, (&decided, &mut head), (asked.body, length, most), ledger).await?;
    if let Some(answer) = head.answer.take() {
        return Ok(Came::Own(answer));
    }
    let filter = shared.redact.filter(&decided);
    let mut request = write_anew(asked.request, (asked.parts.method, asked.parts.uri), head, (length, body))?;
    trailers.put(request.headers_mut());
    let handshake = asked.request.websocket.then(|| {
        websocket::put(request.headers_mut());
        if filter.is_some() {
            websocket::without_extensions(request.headers_mut());
        }
        request.headers().clone()
    });

    let arrived = match &client.multiplex {
        None => upstream::send(shared, asked.place, request).await?,
        // Boxed: requests over HTTP/1.1 do not carry its room about.
        Some(multiplex) => Box::pin(multiplex.send(shared, asked.place, request)).await?,
    };
    match &arrived.opened {
        Some(times) => ledger.opened(times),
        None => shared.metrics.upstream_reused(),
    }
    let response = &arrived.response;
    ledger.head_is_here();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let refuse = |detail| Box::new(Refusal::new(Kind::UpstreamProtocol, Layer::Upstream, detail));
        let sent = handshake
            .ok_or_else(|| refuse("the upstream switches protocols without being asked to".to_owned()))?;
        wire::websocket::check_answer(&sent, response.headers())
            .map_err(|error| refuse(error.to_string()))?;
    }
    let open =
        |filter| Search::open(filter, response, (lease, &shared.coding), (asked.allow.on_opaque, parts));
    let search = filter.map(open).transpose()?;
    if search.as_ref().is_some_and(|search| search.fields_only) {
        let reason = "the body could not be searched for secrets, and the rule lets it pass";
        ledger.note(|record| record.reason = Some(reason.to_owned()));
    }
    Ok(Came::Upstream(arrived, search))
}

/// A length without zeros before it, which some read as octal.
fn written_anew(length: &HeaderValue) -> HeaderValue {
    wire::bytes::parse_decimal(length.as_bytes()).map_or_else(|| length.clone(), HeaderValue::from)
}

/// The smaller of the sandbox's limit and the rule's.
fn body_bytes_max(shared: &Shared, allow: &Allow) -> Option<u64> {
    [shared.limits.request_body_bytes_max, allow.limits.request_body_bytes].into_iter().flatten().min()
}

pub fn body_too_large(most: u64) -> Refusal {
    Refusal::new(Kind::BodyTooLarge, Layer::Http, format!("a request body may have {most} bytes"))
}

/// The `101`; what comes after it is for the [`Session`].
fn switch(
    client: &Client,
    mut response: Response<Incoming>,
    mut search: Option<Search>,
    (request, allow, id, mut ledger): (flow::Request, Allow, DecisionId, Ledger),
) -> Response<Reply> {
    let upstream = match response.body_mut() {
        Incoming::Upstream(receiving) => receiving.take_stream(),
        _ => None,
    };
    let headers = clean_headers(response.headers_mut(), &mut search, &mut ledger);
    let mut back = Response::new(Reply::Whole(None));
    *back.status_mut() = response.status();
    *back.headers_mut() = headers;
    websocket::put(back.headers_mut());
    let filter = search.map(Search::into_filter);
    client.set_session(Session { request, allow, id, ledger, upstream, filter });
    back
}

/// Headers of a response as the client gets them.
pub fn clean_headers(headers: &mut HeaderMap, search: &mut Option<Search>, ledger: &mut Ledger) -> HeaderMap {
    let mut headers = std::mem::take(headers);
    let mut announced = trailers::announced(&headers);
    strip_hop_by_hop(&mut headers);
    strip_forged_proxy_status(&mut headers);
    // They lead clients to another place or protocol, where the same request would be refused.
    remove(&mut headers, &ALT_SVC);
    if let Some(search) = search {
        search.fields(&mut headers);
        // Names in a value: it would be looked at as it is written, and they come in lower case.
        search.fields(&mut announced);
        ledger.redactions(search.redactions());
    }
    if let Some(trailers) = trailers::announcement(&announced) {
        headers.insert(TRAILER, trailers);
    }
    headers
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    // hyper answers `100-continue` itself, as soon as the body is wanted: after the decision.
    remove(&mut headers, &EXPECT);
    headers
}

/// The request as it is sent: framing and authority are ours, whatever a hook did to the headers.
fn write_anew(
    judged: &flow::Request,
    (method, asked): (Method, Uri),
    head: RequestHead,
    (length, body): (Option<HeaderValue>, RequestBody),
) -> Result<Request<RequestBody>, Box<Refusal>> {
    let malformed = |what: &str| {
        Box::new(Refusal::new(Kind::Malformed, Layer::Http, format!("the {what} cannot be sent")))
    };
    let mut headers = end_to_end(head.headers);
    if !names_host(&headers, judged) {
        let host = judged.authority.host_header(judged.scheme.default_port());
        headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| malformed("host"))?);
    }
    remove(&mut headers, &CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    } else if !body.is_end_stream() {
        // RFC 9112 §6.3: without either there is none.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (path, query) = (judged.target.path.as_str(), head.query.as_deref());
    let target = match asked.into_parts().path_and_query {
        // The client wrote it as we do. (Over HTTP/2 also `?x` has the path `/`, and would be sent as it is.)
        Some(asked) if asked.as_str().starts_with('/') && (asked.path(), asked.query()) == (path, query) => {
            asked
        }
        _ => {
            let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
            PathAndQuery::try_from(target).map_err(|_| malformed("query"))?
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = headers;
    Ok(request)
}

/// Whether the one `Host` field is already written as we do.
fn names_host(headers: &HeaderMap, judged: &flow::Request) -> bool {
    let mut values = headers.get_all(HOST).iter();
    let host = values.next().and_then(|value| value.to_str().ok());
    let is_ours = |host| judged.authority.is_host_header(host, judged.scheme.default_port());
    host.is_some_and(is_ours) && values.next().is_none()
}

/// The response as the client gets it.
fn pass_back(
    response: Response<Incoming>,
    mut search: Option<Search>,
    place: Place,
    mut ledger: Ledger,
) -> Response<Reply> {
    ledger.answered(response.status().as_u16());
    let (parts, incoming) = response.into_parts();
    let mut headers = parts.headers;
    // RFC 9112 §6.3: chunked wins, and the length is a lie that must not be passed on; RFC 9110 §8.6: there is none of nothing.
    if has(&headers, &TRANSFER_ENCODING) || parts.status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let mut headers = clean_headers(&mut headers, &mut search, &mut ledger);
    if search.is_some() && !incoming.is_end_stream() {
        headers.remove(CONTENT_LENGTH);
    }
    let passing = Passing::new(incoming, search, place, ledger);
    // Anew: extensions of a response are left behind.
    let mut back = Response::new(Reply::Passing(Box::new(passing)));
    *back.status_mut() = parts.status;
    *back.headers_mut() = headers;
    back
}
