//! Background tasks. One that panics ends the process: nothing else would do its work, and what it leaves undone, such as a
//! watch that no longer reads, would look like peace. Its supervisor starts Opsy again, and builds continue meanwhile.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;

/// What is done before the process ends, since nothing is dropped then.
static BEFORE_EXIT: OnceLock<fn()> = OnceLock::new();

/// Sets what is done before a task that panicked ends the process. Only the first call has an effect.
pub fn before_exit(action: fn()) {
    let _ = BEFORE_EXIT.set(action);
}

/// Starts a task that ends with the handle.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(guarded(task, move |message| {
        tracing::error!(task = name, "a background task has panicked, so Opsy ends: {message}");
        if let Some(action) = BEFORE_EXIT.get() {
            action();
        }
        std::process::exit(1);
    })))
}

/// Starts a task that ends with the process.
pub fn detach(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    spawn(name, task).detach();
}

async fn guarded(task: impl Future<Output = ()>, on_panic: impl FnOnce(String)) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        on_panic(message_of(panic));
    }
}

/// The message of a panic.
pub fn message_of(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_once_with_its_message_and_an_end_is_not() {
        let reported = Mutex::new(Vec::new());
        let report = |message| reported.lock().expect("no panic").push(message);
        guarded(async {}, report).await;
        guarded(async { panic!("the {} is gone", "cache") }, report).await;
        guarded(async { panic!("fixed") }, report).await;
        assert_eq!(*reported.lock().expect("no panic"), ["the cache is gone", "fixed"]);
    }
}
