//! Whose credentials are in use, as STS tells.

use std::time::Duration;

use super::{Aws, AwsError, Fresh, unreadable};
use crate::api::Region;

/// A role may be moved to another account while its access keys are still valid.
pub(super) const KEEP_ACCOUNT: Duration = Duration::from_secs(3600);

/// Whose credentials are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    /// The user, or the session of a role.
    pub arn: String,
}

impl Aws {
    /// Returns the account of the credentials. It is looked up again when their access key changes, and, if responses age,
    /// once an hour.
    pub async fn account(&self, region: &Region) -> Result<String, AwsError> {
        let ask = || async { self.identity(region).await.map(|identity| identity.account) };
        self.0.accounts.get(&self.0.clients.key_changes(), Fresh::Cached, ask).await
    }

    /// Returns whose credentials are in use. AWS is asked each time, and answers it to everyone.
    pub async fn identity(&self, region: &Region) -> Result<Identity, AwsError> {
        let sts = self.0.clients.sts(region);
        let answer = sts.sdk.get_caller_identity().send().await;
        let identity = answer.map_err(sts.failed("GetCallerIdentity"))?;
        let account = identity.account.ok_or_else(|| unreadable("sts:GetCallerIdentity", "no account"))?;
        Ok(Identity { account, arn: identity.arn.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use jiff::Timestamp;

    use crate::aws::fake::{Wire, ok, region, sts};

    thread_local! { static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) } }

    #[tokio::test]
    async fn an_account_is_asked_for_again_every_hour() {
        let wire = Wire::new(
            ["1", "2"].map(|account| ok(sts("GetCallerIdentity", &format!("<Account>{account}</Account>")))),
        );
        let aws = wire.aws_at(|| NOW.get()).await;
        let account = async |minutes: i64| {
            NOW.set(Timestamp::from_second(minutes * 60).expect("a time"));
            aws.account(&region()).await.expect("an account")
        };
        assert_eq!(
            (account(0).await, account(59).await, account(60).await),
            ("1".into(), "1".into(), "2".into())
        );
    }
}
