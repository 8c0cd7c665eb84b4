//! The queue of pushes between the edge and the agent.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::api::Pushed;
use crate::api::lock::lock;

/// Maximum number of waiting pushes. If there are more, everything is fetched.
const MOST_WAITING: usize = 64;

/// Pushes that the agent has not handled yet, without duplicates. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Vec<Pushed>>,
    news: Notify,
}

impl Inbox {
    /// Adds pushes and wakes the reader.
    pub fn put(&self, pushes: Vec<Pushed>) {
        if pushes.is_empty() {
            return;
        }
        let mut waiting = lock(&self.0.waiting);
        for pushed in pushes {
            if !waiting.contains(&pushed) {
                waiting.push(pushed);
            }
        }
        if waiting.len() > MOST_WAITING {
            *waiting = vec![Pushed::default()];
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Waits for pushes and takes all of them. There is one reader at a time.
    pub async fn next(&self) -> Vec<Pushed> {
        loop {
            let waiting = self.take();
            if !waiting.is_empty() {
                return waiting;
            }
            self.0.news.notified().await;
        }
    }

    fn take(&self) -> Vec<Pushed> {
        std::mem::take(&mut *lock(&self.0.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(address: &str) -> Pushed {
        Pushed { addresses: vec![address.to_owned()], branch: None }
    }

    #[tokio::test]
    async fn equal_pushes_are_one_and_many_are_everything() {
        let inbox = Inbox::default();
        let reader = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.next().await }
        });
        inbox.put(vec![pushed("a"), pushed("b"), pushed("a")]);
        assert_eq!(reader.await.expect("read"), [pushed("a"), pushed("b")]);
        inbox.put(Vec::new());
        for number in 0..100 {
            inbox.put(vec![pushed(&number.to_string())]);
        }
        let rest = inbox.next().await;
        assert!(rest.contains(&Pushed::default()) && rest.len() <= MOST_WAITING, "{rest:?}");
        assert_eq!(inbox.take(), []);
    }
}
