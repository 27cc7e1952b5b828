//! The front door: a plain connection to the proxy, request by request.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::answer;
use super::connect;
use super::http1::{self, Client};
use super::shared::Shared;
use super::strict_io::{NoHead, StrictIo};
use crate::audit::Layer;
use crate::refuse::{Kind, Refusal};
use crate::wire::head::HeadError;

pub async fn serve<S>(shared: Arc<Shared>, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = StrictIo::new(io, shared.limits.header_bytes_max);
    let client = Arc::new(Client::plain(Arc::clone(&shared)));
    loop {
        match timeout(shared.limits.header_timeout, io.head()).await {
            Ok(Ok(ahead)) if ahead.connect => return connect::serve(&shared, io).await,
            Ok(Ok(_)) => {}
            Ok(Err(NoHead::Bad(error))) => return refuse_bad(&shared, &mut io, error).await,
            Ok(Err(NoHead::End | NoHead::Broken)) | Err(_) => return,
        }
        let Some(back) = http1::serve(io, &client).await else { return };
        io = back;
        if !io.has_news() || client.is_last() {
            return answer::linger(&shared, io.io_mut()).await;
        }
    }
}

/// Answers a head that is not acceptable.
pub async fn refuse_bad<S>(shared: &Shared, io: &mut StrictIo<S>, error: HeadError)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let kind = match error {
        HeadError::TooLarge | HeadError::TooManyFields => Kind::HeadTooLarge,
        _ => Kind::Malformed,
    };
    let refusal = Refusal::new(kind, Layer::Http, error.to_string());
    answer::refuse(shared, io.io_mut(), &refusal, &shared.begin()).await;
}
