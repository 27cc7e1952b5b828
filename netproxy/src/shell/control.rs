//! What an embedder tells all connections at once: take nothing new, or ask the policy again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    draining: bool,
    ended: bool,
    /// How often the policy has changed.
    policy: u64,
}

/// The sending side. Every connection that is served holds an [`Alarm`].
pub struct Control {
    state: watch::Sender<State>,
    /// Counts changes of `state`, for who only wants to know whether there was one.
    changes: AtomicU64,
    /// Of these, the ones that everybody who waits has been woken for.
    told: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            changes: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }
}

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Finish what runs.
    Drain,
    /// Ask whether you may stay.
    Reauthorize,
}

impl Control {
    pub fn drain(&self) {
        self.change(|state| state.draining = true);
    }

    /// Whatever runs ends now.
    pub fn end(&self) {
        self.change(|state| (state.draining, state.ended) = (true, true));
    }

    pub fn reauthorize(&self) {
        self.change(|state| state.policy = state.policy.wrapping_add(1));
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            self.changes.fetch_add(1, Ordering::Release);
            how(state);
        });
        self.told.fetch_add(1, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.state.borrow().draining
    }

    pub fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    /// Who is gone where an exchange has no end of its own.
    pub fn who_is_gone(&self) -> &'static str {
        if self.has_ended() { "proxy_ended" } else { "client_went_away" }
    }

    /// Hears of what happens from now on, and of draining in any case.
    pub fn alarm(&self) -> Alarm {
        let receiver = self.state.subscribe();
        let seen = State { draining: false, ..*receiver.borrow() };
        Alarm { receiver, seen }
    }

    /// What `wait` gives, unless the proxy is draining before it is there: nothing new is waited for then.
    pub async fn unless_draining<F: Future>(&self, wait: F) -> Option<F::Output> {
        let mut alarm = self.alarm();
        let draining = async { while alarm.next().await != Event::Drain {} };
        tokio::select! {
            biased;
            done = wait => Some(done),
            () = draining => None,
        }
    }

    /// Runs `serving` until it is done, or until everything ends.
    pub async fn unless_ended(&self, serving: impl Future<Output = ()>) {
        let mut state = self.state.subscribe();
        let mut ended = pin!(async move { drop(state.wait_for(|state| state.ended).await) });
        let (mut serving, mut gate) = (pin!(serving), Gate::default());
        poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Pending => gate.poll(cx, self, ended.as_mut()),
            done => done,
        })
        .await;
    }

    /// Returns when no alarm is left: no connection is served any more.
    pub async fn all_gone(&self) {
        self.state.closed().await;
    }
}

/// The receiving side.
pub struct Alarm {
    receiver: watch::Receiver<State>,
    seen: State,
}

impl Alarm {
    /// The next event; for ever pending if there is none. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            let now = *self.receiver.borrow_and_update();
            if now.draining && !self.seen.draining {
                self.seen.draining = true;
                return Event::Drain;
            }
            if now.policy != self.seen.policy {
                self.seen.policy = now.policy;
                return Event::Reauthorize;
            }
            if self.receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Polls [`Alarm::next`], or what else waits for the state, only when that can have changed: once for each waker, and after each change. A
/// connection is polled many times for each request, and an alarm is not free.
#[derive(Default)]
pub struct Gate {
    registered: Option<(Waker, u64)>,
}

impl Gate {
    pub fn poll<F: Future>(
        &mut self,
        cx: &mut Context<'_>,
        control: &Control,
        next: Pin<&mut F>,
    ) -> Poll<F::Output> {
        let told = control.told.load(Ordering::Acquire);
        let changes = control.changes.load(Ordering::Acquire);
        if let Some((waker, seen)) = &self.registered
            && *seen == changes
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        // News that is on its way now wakes this task later, and must be looked for then.
        self.registered = (told == changes).then(|| (cx.waker().clone(), changes));
        next.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    /// One of which it is known when it is the same.
    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    /// A reload on another thread, of which the count is seen before anybody is woken.
    #[test]
    fn a_change_is_heard_of_whenever_the_gate_is_asked() {
        let control = Control::default();
        let mut alarm = control.alarm();
        let (mut next, mut gate) = (pin!(alarm.next()), Gate::default());
        let waker = Waker::from(Arc::new(Nobody));
        let mut cx = Context::from_waker(&waker);
        let mut ask = || gate.poll(&mut cx, &control, next.as_mut());
        assert_eq!(ask(), Poll::Pending);
        control.change(|state| {
            state.policy = 1;
            assert_eq!(ask(), Poll::Pending, "nobody was woken yet");
        });
        assert_eq!(ask(), Poll::Ready(Event::Reauthorize));
    }
}
