//! Whose credentials are in use, as STS tells.

use std::time::Duration;

use tokio::time::Instant;

use super::{Aging, Aws, AwsError, Fresh, unreadable};
use crate::api::Region;

/// A role may be moved to another account while its access keys are still valid.
const KEEP_ACCOUNT: Duration = Duration::from_secs(3600);

/// Whose credentials are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    /// The user, or the session of a role.
    pub arn: String,
}

/// The account that was looked up, with the access key of that time.
pub(super) struct Asked {
    account: String,
    key: Option<String>,
    at: Instant,
}

impl Asked {
    /// Returns whether this is still the account of the credentials in use.
    fn is_current(&self, key: Option<&str>, now: Instant) -> bool {
        self.key.as_deref() == key && now.duration_since(self.at) < KEEP_ACCOUNT
    }
}

impl Aws {
    /// Returns the account of the credentials. Unless no response ages, it is looked up again when they change, and once
    /// an hour.
    pub async fn account(&self, region: &Region) -> Result<String, AwsError> {
        if matches!(self.0.aging, Aging::Never) {
            let ask = || async { self.identity(region).await.map(|identity| identity.account) };
            return self.0.only_account.get(&(), Fresh::Cached, ask).await;
        }
        let mut asked = self.0.account.lock().await;
        let key = self.0.clients.key();
        if let Some(known) = asked.as_ref().filter(|known| known.is_current(key.as_deref(), Instant::now())) {
            return Ok(known.account.clone());
        }
        *asked = None;
        let at = Instant::now();
        let Identity { account, .. } = self.identity(region).await?;
        // The very first call loads the credentials. If they changed during the call, it is not known whose account
        // this is.
        let now = self.0.clients.key();
        if key.is_none() || key == now {
            *asked = Some(Asked { account: account.clone(), key: now, at });
        }
        Ok(account)
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
    use super::*;

    #[test]
    fn an_account_is_asked_for_again_every_hour() {
        let at = Instant::now();
        let asked = Asked { account: "1".to_owned(), key: Some("K".to_owned()), at };
        let after = |minutes: u64| at + Duration::from_secs(minutes * 60);
        assert!(asked.is_current(Some("K"), after(59)) && !asked.is_current(Some("K"), after(60)));
        assert!(!asked.is_current(Some("L"), at) && !asked.is_current(None, at));
    }
}
