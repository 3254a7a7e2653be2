use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does some work on each of the items, on so many threads at a time, in about their order. A failure sets `stop`,
/// which the work is to look at: before it begins, and while it is under way. Somebody else may set it too.
///
/// # Errors
/// The failure of the first item, in their order, that failed; those that were `is_stopped` merely followed, and come
/// last.
pub fn in_parallel<T: Sync, E: Send>(
    jobs: usize,
    stop: &AtomicBool,
    items: &[T],
    is_stopped: fn(&E) -> bool,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            // None is begun after a failure here. Whether it should be after somebody else's is for the work to say.
            if has_failed.load(Ordering::Relaxed) {
                return;
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            if let Err(error) = work(item) {
                stop.store(true, Ordering::Relaxed);
                has_failed.store(true, Ordering::Relaxed);
                failures.lock().unwrap_or_else(PoisonError::into_inner).push((index, error));
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1).min(items.len()) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failures.into_iter().min_by_key(|(index, error)| (is_stopped(error), *index)) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items above 100 fail as stopped.
    fn check(items: &[u32], jobs: usize, expected: Result<(), u32>) {
        let stop = AtomicBool::new(false);
        let done = Mutex::new(Vec::new());
        let work = |item: &u32| {
            done.lock().unwrap().push(*item);
            if *item < 10 { Ok(()) } else { Err(*item) }
        };
        assert_eq!(in_parallel(jobs, &stop, items, |error| *error > 100, work), expected);
        assert_eq!(stop.load(Ordering::Relaxed), expected.is_err());
        if expected.is_ok() {
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, items);
        }
    }

    #[test]
    fn all_or_the_first_failure() {
        check(&[], 4, Ok(()));
        check(&[1, 2, 3, 4, 5, 6, 7], 3, Ok(()));
        check(&[1, 2], 0, Ok(()));
        check(&[1, 11, 2, 12], 1, Err(11));
        check(&[1, 101], 2, Err(101));
    }
}
