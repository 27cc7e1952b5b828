//! The tasks that do the jobs of one connection, side by side. One that is done waits for the next job, and is
//! given it before a new one is hired: for a stream of HTTP/2, a task of its own costs more than what else is done
//! for the stream (kilobytes are allocated, moved several times, and given back).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::trace::Span;

/// Those that wait, each for a job sent to it; the last to have worked is the first to work again.
struct Waiting<J> {
    places: Mutex<Vec<oneshot::Sender<J>>>,
    most: usize,
}

/// Those that wait go when this is dropped; those at work when they are done.
pub struct Crew<J>(Arc<Waiting<J>>);

impl<J: Send + 'static> Crew<J> {
    /// At most `most` wait; more may be at work.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Waiting { places: Mutex::default(), most }))
    }

    /// Has `job` done by `work`, in the span of the caller where a task is hired for it.
    pub fn give<W, F>(&self, mut job: J, work: &W)
    where
        W: Fn(J) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(free) = self.0.pop() {
            match free.send(job) {
                Ok(()) => return,
                Err(unsent) => job = unsent,
            }
        }
        tokio::spawn(Span::current().around(member(job, work.clone(), Arc::downgrade(&self.0))));
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
    fn place(&self) -> Option<oneshot::Receiver<J>> {
        let mut places = self.lock();
        (places.len() < self.most).then(|| {
            let (sender, receiver) = oneshot::channel();
            places.push(sender);
            receiver
        })
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
        let Ok(next) = place.await else { return };
        job = next;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};
    use tokio::task::{Id, yield_now};

    use super::*;

    /// Does each job when it is let, and tells which task did it.
    fn workshop() -> (Arc<Semaphore>, mpsc::UnboundedReceiver<Id>, impl Fn(()) -> Work + Clone) {
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
        let crew = Crew::new(2);
        let_in.add_permits(3);
        crew.give((), &work);
        let first = done.recv().await.unwrap();
        for _ in 0..2 {
            yield_now().await;
            crew.give((), &work);
            assert_eq!(done.recv().await.unwrap(), first);
        }
    }

    #[tokio::test]
    async fn jobs_are_done_side_by_side_and_only_so_many_wait_for_more() {
        let (let_in, mut done, work) = workshop();
        let crew = Crew::new(2);
        for _ in 0..5 {
            crew.give((), &work);
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
        assert_eq!(crew.0.lock().len(), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_that_is_gone() {
        let held = Arc::new(());
        let work = {
            let held = Arc::clone(&held);
            move |()| {
                let _ = &held;
                async {}
            }
        };
        let crew = Crew::new(8);
        for _ in 0..3 {
            crew.give((), &work);
        }
        yield_now().await;
        drop(work);
        assert_eq!((Arc::strong_count(&held), crew.0.lock().len()), (4, 3));
        drop(crew);
        yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
