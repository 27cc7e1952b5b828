//! A waker that says who is woken: a connection between two exchanges keeps no task of the last one awake, or in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Who is woken when it rings next; once.
#[derive(Default)]
pub struct Bell(Mutex<Option<Waker>>);

impl Bell {
    pub fn wakes(&self, waker: Option<&Waker>) {
        let old = {
            let mut wakes = self.lock();
            if let (Some(old), Some(new)) = (&*wakes, waker)
                && old.will_wake(new)
            {
                return;
            }
            std::mem::replace(&mut *wakes, waker.cloned())
        };
        // Not under the lock: it may be the last that is left of a task.
        drop(old);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakes = self.lock().take();
        if let Some(waker) = wakes {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_the_last_who_asked_once_and_lets_go_of_the_others() {
        let (bell, one, two) =
            (Arc::new(Bell::default()), Arc::new(Count::default()), Arc::new(Count::default()));
        let ring = Waker::from(Arc::clone(&bell));
        ring.wake_by_ref();
        bell.wakes(Some(&Waker::from(Arc::clone(&one))));
        bell.wakes(Some(&Waker::from(Arc::clone(&two))));
        assert_eq!(Arc::strong_count(&one), 1, "the first is still kept");
        ring.wake_by_ref();
        ring.wake_by_ref();
        let rung = |count: &Count| count.0.load(Ordering::Relaxed);
        assert_eq!((rung(&one), rung(&two)), (0, 1));
        bell.wakes(Some(&Waker::from(Arc::clone(&two))));
        bell.wakes(None);
        ring.wake();
        assert_eq!((rung(&two), Arc::strong_count(&two)), (1, 1));
    }
}
