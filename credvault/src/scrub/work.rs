//! Counts steps where tests ask for it, so that they can tell linear work from more. Elsewhere it is nothing.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many bytes were looked at, copied or compared.
#[inline]
pub(super) fn done(steps: usize) {
    #[cfg(test)]
    STEPS.with(|count| count.set(count.get().saturating_add(steps)));
    #[cfg(not(test))]
    let _ = steps;
}

/// What was done on this thread since the last call.
#[cfg(test)]
pub(super) fn taken() -> usize {
    STEPS.with(|count| count.replace(0))
}
