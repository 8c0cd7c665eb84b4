//! The only policy for poisoned locks: every `std::sync::Mutex` of the agent is locked with this function. Pure.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, even if a thread panicked while it held the lock.
///
/// The code behind these locks makes a new value before it replaces the old one, so that a panic leaves whole entries. If
/// the poison were propagated, one failed reconcile, which the loop reports and retries, would make all of them fail.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_can_be_used_after_a_panic() {
        let mutex = Mutex::new(1);
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _guard = lock(&mutex);
                panic!("while the lock is held");
            });
            panicked.join().expect_err("it panicked");
        });
        assert!(mutex.is_poisoned());
        *lock(&mutex) += 1;
        assert_eq!(*lock(&mutex), 2);
    }
}
