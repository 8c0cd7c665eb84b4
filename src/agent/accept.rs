//! The requests of `opsy accept`, which the engine keeps and the sync answers.

use std::sync::Arc;

use futures::FutureExt;

use crate::engine::Home;
use crate::sync::Accepts;

/// Reads and removes the requests.
pub fn requests(home: Arc<dyn Home>) -> Accepts {
    let reader = home.clone();
    Accepts {
        pending: Box::new(move || {
            let home = reader.clone();
            async move {
                let accepted = home.accepted().await;
                accepted.unwrap_or_else(|error| {
                    tracing::warn!(%error, "`opsy accept` cannot be answered: the tip stays held back");
                    None
                })
            }
            .boxed()
        }),
        remove: Box::new(move |commit| {
            let home = home.clone();
            async move { home.remove_accepted(commit).await.is_ok() }.boxed()
        }),
    }
}
