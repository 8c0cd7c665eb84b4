//! Which callers share which response. Callers wait at a gate, so that every order is forced and does not depend on
//! timing.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::poll;
use tokio::sync::Semaphore;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

/// A service that responds with the number of the call, once the gate is open.
struct Service {
    calls: AtomicUsize,
    gate: Semaphore,
    fails: bool,
}

impl Service {
    fn new(fails: bool) -> Self {
        Self { calls: AtomicUsize::new(0), gate: Semaphore::new(0), fails }
    }

    fn let_through(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    async fn ask(&self) -> Result<usize, &'static str> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.gate.acquire().await.expect("the gate is never closed").forget();
        if self.fails { Err("unavailable") } else { Ok(call) }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

thread_local! {
    /// The clock of this test. Each test has its own thread.
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) };
}

fn now() -> Timestamp {
    NOW.get()
}

fn shared(keep: Duration) -> Shared<&'static str, usize, &'static str> {
    Shared::new(keep, Aging::By(now))
}

#[tokio::test]
async fn an_answer_is_kept_for_a_while_and_by_key() {
    let (shared, service) = (shared(LONG), Service::new(false));
    service.let_through(9);
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(1));
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(1));
    assert_eq!(shared.get(&"b", Fresh::Cached, || service.ask()).await, Ok(2));
    assert_eq!(shared.get(&"a", Fresh::Now, || service.ask()).await, Ok(3));
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(3), "Now replaces it");
}

#[tokio::test]
async fn an_old_answer_is_asked_for_again_and_its_slot_goes() {
    let (shared, service) = (shared(Duration::ZERO), Service::new(false));
    service.let_through(9);
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(1));
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(2));
    assert_eq!(shared.get(&"b", Fresh::Cached, || service.ask()).await, Ok(3));
    assert_eq!(lock(&shared.slots).keys().collect::<Vec<_>>(), [&"b"]);
}

#[tokio::test]
async fn those_who_ask_at_once_share_one_call() {
    let (shared, service) = (shared(LONG), Service::new(false));
    let ask = || shared.get(&"a", Fresh::Cached, || service.ask());
    let (mut first, mut second, mut third) = (Box::pin(ask()), Box::pin(ask()), Box::pin(ask()));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending());
    service.let_through(1);
    assert_eq!((first.await, second.await, third.await), (Ok(1), Ok(1), Ok(1)));
    assert_eq!(service.calls(), 1);
}

#[tokio::test]
async fn now_takes_no_answer_to_an_older_question_but_shares_a_newer_one() {
    let (shared, service) = (shared(LONG), Service::new(false));
    let now = || shared.get(&"a", Fresh::Now, || service.ask());
    let (mut first, mut second, mut third) = (Box::pin(now()), Box::pin(now()), Box::pin(now()));
    assert!(poll!(&mut first).is_pending(), "asks");
    assert!(poll!(&mut second).is_pending(), "came after the question");
    assert!(poll!(&mut third).is_pending(), "this one, too");
    service.let_through(2);
    assert_eq!((first.await, second.await, third.await), (Ok(1), Ok(2), Ok(2)));
    assert_eq!(service.calls(), 2);
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited_and_never_kept() {
    let (shared, broken, well) = (shared(LONG), Service::new(true), Service::new(false));
    well.let_through(9);
    let ask = |fresh| shared.get(&"a", fresh, || broken.ask());
    let (mut first, mut second, mut third) =
        (Box::pin(ask(Fresh::Cached)), Box::pin(ask(Fresh::Cached)), Box::pin(ask(Fresh::Now)));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending());
    broken.let_through(1);
    let failed = Err("unavailable");
    assert_eq!((first.await, second.await, third.await), (failed, failed, failed));
    assert_eq!(broken.calls(), 1, "an unavailable service is not asked once per object");
    assert_eq!(shared.get(&"a", Fresh::Cached, || well.ask()).await, Ok(1));
}

#[tokio::test]
async fn a_failure_leaves_the_kept_answer() {
    let (shared, broken, well) = (shared(LONG), Service::new(true), Service::new(false));
    well.let_through(1);
    broken.let_through(1);
    assert_eq!(shared.get(&"a", Fresh::Cached, || well.ask()).await, Ok(1));
    assert_eq!(shared.get(&"a", Fresh::Now, || broken.ask()).await, Err("unavailable"));
    assert_eq!(shared.get(&"a", Fresh::Cached, || broken.ask()).await, Ok(1));
}

#[tokio::test]
async fn a_write_drops_the_answer_also_one_on_its_way() {
    let (shared, service) = (shared(LONG), Service::new(false));
    let ask = || shared.get(&"a", Fresh::Cached, || service.ask());
    let mut early = Box::pin(ask());
    assert!(poll!(&mut early).is_pending());
    shared.drop_key(&"a");
    service.let_through(9);
    assert_eq!(early.await, Ok(1), "a caller that asked before the write gets its response");
    assert_eq!(ask().await, Ok(2), "a caller after the write gets a new one");
    shared.drop_key(&"a");
    assert_eq!(ask().await, Ok(3));
}

#[tokio::test]
async fn one_who_gives_up_lets_the_next_one_ask() {
    let (shared, service) = (shared(LONG), Service::new(false));
    let ask = || shared.get(&"a", Fresh::Cached, || service.ask());
    let (mut first, mut second) = (Box::pin(ask()), Box::pin(ask()));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    drop(first);
    service.let_through(1);
    assert_eq!(second.await, Ok(2));
}

#[tokio::test]
async fn an_older_answer_is_for_those_who_accept_it() {
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let (shared, service) = (shared(minute).holding(hour), Service::new(false));
    service.let_through(9);
    let read = |key, fresh| shared.read(key, fresh, || service.ask());
    assert_eq!(read(&"a", Fresh::Within(hour)).await, Ok((1, true)));
    assert_eq!(read(&"a", Fresh::Within(hour)).await, Ok((1, false)));
    NOW.set(now() + minute);
    assert_eq!(read(&"b", Fresh::Cached).await, Ok((2, true)));
    assert_eq!(read(&"a", Fresh::Within(hour)).await, Ok((1, false)), "another key does not drop it");
    assert_eq!(read(&"a", Fresh::Cached).await, Ok((3, true)));
    NOW.set(now() + hour);
    assert_eq!(read(&"a", Fresh::Within(hour)).await, Ok((4, true)));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_answer_last_longer() {
    let (shared, service) = (shared(LONG), Service::new(false));
    service.let_through(9);
    NOW.set(now() + LONG);
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(1));
    NOW.set(Timestamp::UNIX_EPOCH);
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(2));
    assert_eq!(shared.get(&"a", Fresh::Cached, || service.ask()).await, Ok(2));
}

#[tokio::test]
async fn what_does_not_age_is_asked_once() {
    let shared = Shared::new(Duration::ZERO, Aging::Never);
    let (broken, well) = (Service::new(true), Service::new(false));
    broken.let_through(9);
    well.let_through(9);
    for fresh in [Fresh::Now, Fresh::Within(Duration::ZERO), Fresh::Cached] {
        assert_eq!(
            shared.read(&"a", fresh, || well.ask()).await,
            Ok((1, true)),
            "counts as read now: {fresh:?}"
        );
        assert_eq!(shared.read(&"b", fresh, || broken.ask()).await, Err("unavailable"));
    }
    assert_eq!((well.calls(), broken.calls()), (1, 1), "another key drops neither");
}
