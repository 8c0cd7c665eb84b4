//! The agent's own ServiceAccount, under which no build may run.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::PostParams;

use super::Cluster;
use super::error::Refusal;
use crate::api::{Class, Key};

/// The API server's prefix of the user name of a ServiceAccount.
const PREFIX: &str = "system:serviceaccount:";

/// Asks the API server which ServiceAccount the agent has. `None` if the user is a person, or if the API server refuses
/// the question, which is logged.
///
/// # Errors
/// The API server cannot be asked now. Without an answer, builds could use the agent's account for as long as the agent
/// runs, so it must not continue.
pub async fn own(cluster: &Cluster) -> Result<Option<Key>, Refusal> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.map_err(Refusal::from) {
        Ok(review) => {
            let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
            Ok(user.as_deref().and_then(account))
        }
        Err(refusal) if matches!(refusal.class, Class::Transient { .. }) => Err(refusal),
        Err(refusal) => {
            tracing::warn!(
                error = %refusal,
                "the agent may not ask which ServiceAccount it runs under, so builds can use that account: set --service-account"
            );
            Ok(None)
        }
    }
}

fn account(user: &str) -> Option<Key> {
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    Some(Key { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_account_is_one() {
        let key = Key { namespace: "ops".to_owned(), name: "opsy".to_owned() };
        assert_eq!(account("system:serviceaccount:ops:opsy"), Some(key));
        for user in ["alice", "system:node:a", "system:serviceaccount:ops", ""] {
            assert_eq!(account(user), None, "{user}");
        }
    }
}
