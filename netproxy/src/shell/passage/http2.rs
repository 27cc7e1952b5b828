//! A refused connection over which the client speaks HTTP/2: each stream is answered with the refusal, and the
//! client is told to go a while after the first.

use std::sync::{Arc, Mutex, PoisonError};

use http::uri::PathAndQuery;
use http::{Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Passage;
use crate::flow;
use crate::refuse::{Refusal, shows_words_only};
use crate::shell::client::http1::Client;
use crate::shell::client::http2;
use crate::shell::exchange;
use crate::shell::exchange::body::Reply;
use crate::shell::shared::{Decision, Shared};
use crate::shell::stream::incoming::Incoming;
use crate::wire::target::Target;

impl Passage<'_> {
    pub(super) async fn refuse_in_http2<T>(&self, tls: T, refusal: Refusal)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = Arc::new(Client::inside_http2(
            Arc::clone(self.shared),
            self.authority.clone(),
            self.decision.policy,
        ));
        let first = Mutex::new(Some(self.decision.clone()));
        let refused = Refused { shared: Arc::clone(self.shared), refusal, first, done: Notify::new() };
        let refused = Arc::new(refused);
        self.heard();
        // Not at once: Java gives up a stream whose answer has arrived, if it is told to go before it has read it.
        let answered = async {
            refused.done.notified().await;
            sleep(self.shared.limits.linger_timeout).await;
        };
        let told = async {
            let _ = self.shared.control.unless_draining(answered).await;
        };
        let ours = Arc::clone(&refused);
        // What is refused here is recorded already.
        let _ = http2::drive(tls, self.shared, told, move |request, _| {
            let (client, refused) = (Arc::clone(&client), Arc::clone(&ours));
            async move { refused.answer(&client, &request) }
        })
        .await;
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        if let Some(decision) = self.take_first() {
            self.shared.record_refusal(&decision, &self.refusal, false);
        }
    }
}

struct Refused {
    shared: Arc<Shared>,
    refusal: Refusal,
    /// The decision of the door; streams after the first have decisions of their own.
    first: Mutex<Option<Decision>>,
    done: Notify,
}

impl Refused {
    fn take_first(&self) -> Option<Decision> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn answer(&self, client: &Client, request: &Request<Incoming>) -> Response<Reply> {
        let (decision, mut refusal) = match self.take_first() {
            Some(first) => (first, Box::new(self.refusal.clone())),
            None => (client.shared.begin(), self.refusal.of_another()),
        };
        refusal.words = shows_words_only(request.headers());
        refusal.subject.method = Some(flow::method_text(request.method().as_str()));
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let understood =
            flow::understand(client.door(), request.method().as_str(), Target::parse(path), None);
        refusal.subject.path = understood.ok().and_then(|request| request.subject().path);
        self.done.notify_one();
        exchange::refuse(client, &refusal, (&decision, Version::HTTP_2))
    }
}
