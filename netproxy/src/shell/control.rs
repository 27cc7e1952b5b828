//! What an embedder tells all connections at once: take nothing new, or ask the policy again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;
use tokio::task::coop::unconstrained;

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
    /// That of `state`, for who takes many decisions.
    policy: AtomicU64,
    /// Counts changes of `state`, for who only wants to know whether there was one.
    changes: AtomicU64,
    /// Of these, the ones that everybody who waits has been woken for.
    told: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            policy: AtomicU64::new(0),
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
        self.change(|state| {
            state.policy = state.policy.wrapping_add(1);
            self.policy.store(state.policy, Ordering::Release);
        });
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

    /// How often the policy has changed: a decision that is taken after this is by the policy of then, or a later one.
    pub fn policy(&self) -> u64 {
        self.policy.load(Ordering::Acquire)
    }

    /// Hears of what happens from now on, and of draining in any case.
    pub fn alarm(&self) -> Alarm {
        self.alarm_since(self.policy())
    }

    /// Hears of what has happened since the [`policy`](Self::policy) was that one, and of draining in any case.
    pub fn alarm_since(&self, policy: u64) -> Alarm {
        Alarm { receiver: self.state.subscribe(), seen: State { policy, ..State::default() } }
    }

    /// Returns when the proxy is to end, and nothing new is to be waited for.
    pub async fn draining(&self) {
        let mut alarm = self.alarm();
        while alarm.next().await != Event::Drain {}
    }

    /// What `wait` gives, unless the proxy is draining before it is there.
    pub async fn unless_draining<F: Future>(&self, wait: F) -> Option<F::Output> {
        unless(self.draining(), wait).await
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

/// What `wait` gives, unless `stop` is done before it is there.
pub async fn unless<F: Future>(stop: impl Future<Output = ()>, wait: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = wait => Some(done),
        () = stop => None,
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
        // What tokio puts off, for a task that has run for long, would not have registered anything.
        pin!(unconstrained(next)).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use tokio::task::{coop, yield_now};

    use super::*;

    /// Whether somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// A reload on another thread, of which the count is seen before anybody is woken.
    #[test]
    fn a_change_is_heard_of_whenever_the_gate_is_asked() {
        let control = Control::default();
        let mut alarm = control.alarm();
        let (mut next, mut gate) = (pin!(alarm.next()), Gate::default());
        let waker = Waker::from(Arc::new(Woken::default()));
        let mut cx = Context::from_waker(&waker);
        let mut ask = || gate.poll(&mut cx, &control, next.as_mut());
        assert_eq!(ask(), Poll::Pending);
        control.change(|state| {
            state.policy = 1;
            assert_eq!(ask(), Poll::Pending, "nobody was woken yet");
        });
        assert_eq!(ask(), Poll::Ready(Event::Reauthorize));
    }

    /// As one is that moves much data: tokio puts off whatever it waits for.
    #[tokio::test]
    async fn a_task_that_has_run_for_long_is_told_of_a_change() {
        let control = Control::default();
        let mut alarm = control.alarm();
        let (mut next, mut gate) = (pin!(alarm.next()), Gate::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut ask = || gate.poll(&mut Context::from_waker(&waker), &control, next.as_mut());
        poll_fn(|cx| {
            while let Poll::Ready(turn) = coop::poll_proceed(cx) {
                turn.made_progress();
            }
            assert_eq!(ask(), Poll::Pending);
            Poll::Ready(())
        })
        .await;
        yield_now().await;
        assert_eq!(ask(), Poll::Pending);
        woken.0.store(false, Ordering::SeqCst);
        control.reauthorize();
        assert!(woken.0.load(Ordering::SeqCst), "nobody waits for a change");
        assert_eq!(ask(), Poll::Ready(Event::Reauthorize));
    }
}
