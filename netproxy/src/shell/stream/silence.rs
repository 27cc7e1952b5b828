//! A limit on silence. Most waits are short, so that a timer for each would cost more than what is waited for: one is
//! made for the first wait, and moved only when it fires.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long nothing may be heard, each time from when it is waited for.
pub struct Silence {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// How long nothing may be heard.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// What was waited for is here.
    pub fn heard(&mut self) {
        self.since = None;
    }

    /// Whoever waited has no more use for it.
    pub fn wake_nobody(&mut self) {
        if let Some(timer) = &mut self.timer {
            // Whether it is over is asked when it is waited for again.
            let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Ready when nothing was heard for the limit.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(end) = since.checked_add(self.limit) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(timer.as_mut().poll(cx));
            // It may be that of a wait before this one.
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}
