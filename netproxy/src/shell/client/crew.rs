//! The tasks that do the jobs of one connection, side by side. One that is done waits for the next job, and is
//! given it before a new one is hired: for a stream of HTTP/2, a task of its own costs more than what else is done
//! for the stream (kilobytes are allocated, moved several times, and given back).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use crate::shell::limiter::{Count, Slot};
use crate::shell::trace::Span;

/// Those that wait go when this is dropped; those at work when they are done.
pub struct Crew<J, W> {
    waiting: Arc<Waiting<J>>,
    work: W,
}

/// Those that wait, each for a job sent to it; the last to have worked is the first to work again.
struct Waiting<J> {
    places: Mutex<Vec<oneshot::Sender<J>>>,
    /// Of all crews.
    room: Count,
    most: usize,
}

/// A member's place among those that wait, and in the count of them.
struct Place<J> {
    next: oneshot::Receiver<J>,
    _slot: Slot,
}

impl<J, W, F> Crew<J, W>
where
    J: Send + 'static,
    W: Fn(J) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    /// Jobs are done by `work`. A member waits only while fewer than `most` are counted in `room`.
    pub fn new(work: W, (room, most): (Count, usize)) -> Self {
        Self { waiting: Arc::new(Waiting { places: Mutex::default(), room, most }), work }
    }

    /// Has `job` done. A task keeps the span in which it was hired.
    pub fn give(&self, mut job: J) {
        while let Some(free) = self.waiting.pop() {
            match free.send(job) {
                Ok(()) => return,
                Err(unsent) => job = unsent,
            }
        }
        let member = member(job, self.work.clone(), Arc::downgrade(&self.waiting));
        tokio::spawn(Span::current().around(member));
    }
}

impl<J> Waiting<J> {
    fn lock(&self) -> MutexGuard<'_, Vec<oneshot::Sender<J>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<oneshot::Sender<J>> {
        self.lock().pop()
    }

    /// `None` where enough wait.
    fn place(&self) -> Option<Place<J>> {
        let slot = Slot::take(&self.room, self.most)?;
        let (sender, next) = oneshot::channel();
        self.lock().push(sender);
        Some(Place { next, _slot: slot })
    }
}

async fn member<J, W, F>(mut job: J, work: W, waiting: Weak<Waiting<J>>)
where
    W: Fn(J) -> F,
    F: Future<Output = ()>,
{
    loop {
        work(job).await;
        let Some(place) = waiting.upgrade().and_then(|waiting| waiting.place()) else { return };
        let Ok(next) = place.next.await else { return };
        job = next;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::sync::{Semaphore, mpsc};
    use tokio::task::{Id, yield_now};

    use super::*;

    /// Does each job when it is let, and tells which task did it.
    fn workshop() -> (Arc<Semaphore>, mpsc::UnboundedReceiver<Id>, impl Fn(()) -> Work + Clone + Send) {
        let let_in = Arc::new(Semaphore::new(0));
        let (tell, done) = mpsc::unbounded_channel();
        let gate = Arc::clone(&let_in);
        let work = move |()| -> Work {
            let (gate, tell) = (Arc::clone(&gate), tell.clone());
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                tell.send(tokio::task::id()).unwrap();
            })
        };
        (let_in, done, work)
    }

    type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

    #[tokio::test]
    async fn one_that_is_done_does_the_next_job() {
        let (let_in, mut done, work) = workshop();
        let crew = Crew::new(work, (Count::default(), 2));
        let_in.add_permits(3);
        crew.give(());
        let first = done.recv().await.unwrap();
        for _ in 0..2 {
            yield_now().await;
            crew.give(());
            assert_eq!(done.recv().await.unwrap(), first);
        }
    }

    #[tokio::test]
    async fn jobs_are_done_side_by_side_and_only_so_many_wait_for_more() {
        let (let_in, mut done, work) = workshop();
        let crew = Crew::new(work, (Count::default(), 2));
        for _ in 0..5 {
            crew.give(());
        }
        yield_now().await;
        let_in.add_permits(5);
        let mut tasks = Vec::new();
        for _ in 0..5 {
            tasks.push(done.recv().await.unwrap());
        }
        tasks.sort_unstable_by_key(ToString::to_string);
        tasks.dedup();
        assert_eq!(tasks.len(), 5, "a job waited for another");
        yield_now().await;
        assert_eq!(crew.waiting.lock().len(), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_that_is_gone() {
        let (room, held) = (Count::default(), Arc::new(()));
        let work = {
            let held = Arc::clone(&held);
            move |()| {
                let _ = &held;
                async {}
            }
        };
        let counted = || room.load(Ordering::Relaxed);
        let crew = Crew::new(work, (Arc::clone(&room), 3));
        for _ in 0..4 {
            crew.give(());
        }
        yield_now().await;
        // One for the crew, one for each that waits.
        assert_eq!((Arc::strong_count(&held), counted()), (1 + 1 + 3, 3));
        crew.give(());
        assert_eq!(counted(), 3);
        yield_now().await;
        assert_eq!(counted(), 3);
        drop(crew);
        yield_now().await;
        assert_eq!((Arc::strong_count(&held), counted()), (1, 0));
    }
}
