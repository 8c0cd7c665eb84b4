//! Opens the sink of a destination, with the Secret as the engine has it now.

use std::sync::Arc;

use futures::FutureExt;

use crate::api::Class;
use crate::engine::{EngineError, SecretReader};
use crate::notify::destination::Destination;
use crate::notify::sinks::{SinkError, Trouble};
use crate::notify::{Means, Open, Values};

/// Reads the Secret of a destination and makes its sink by `means`.
pub fn opener(secrets: Arc<dyn SecretReader>, means: Means) -> Open {
    Arc::new(move |to: Destination| {
        let (secrets, means) = (secrets.clone(), means.clone());
        async move {
            let values = match to.secret() {
                Some((namespace, name)) => secrets.secret(namespace, name).await.map_err(unreadable)?,
                None => Values::new(),
            };
            means.open(&to, &values)
        }
        .boxed()
    })
}

/// A Secret that cannot be read closes the destination until a person acts, unless the cause can disappear by itself.
fn unreadable(error: EngineError) -> SinkError {
    let kind = match error.class {
        Class::Transient { after } => Trouble::Transient { after },
        Class::Conflict => Trouble::Transient { after: None },
        Class::Denied | Class::NotFound | Class::Invalid => Trouble::Closed,
    };
    SinkError { kind, reason: "SecretUnreadable", message: error.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_reopens_a_destination_whose_secret_is_missing_or_denied() {
        let kind = |class| unreadable(EngineError { class, message: "why".to_owned() }).kind;
        for class in [Class::Denied, Class::NotFound, Class::Invalid] {
            assert!(matches!(kind(class), Trouble::Closed), "{class:?}");
        }
        for class in [Class::TRANSIENT, Class::Conflict] {
            assert!(matches!(kind(class), Trouble::Transient { .. }), "{class:?}");
        }
    }
}
