//! The saved status of the repository. The engine keeps it across restarts, because there is no object that could have
//! it.

use crate::api::status::RepositoryStatus;
use crate::engine::{EngineError, Home};

/// Reads the saved status; an empty one if there is none, or none that this version can read.
///
/// # Errors
/// The engine cannot be asked.
pub async fn load(home: &dyn Home) -> Result<RepositoryStatus, EngineError> {
    Ok(parse(home.memory().await?.as_deref()))
}

/// Saves the status, unless it is the saved one.
///
/// # Errors
/// The engine cannot save it.
pub async fn save(
    home: &dyn Home,
    saved: &RepositoryStatus,
    status: &RepositoryStatus,
) -> Result<(), EngineError> {
    if status == saved {
        return Ok(());
    }
    home.save(serde_json::to_string(status).expect("a status is plain data")).await
}

fn parse(memory: Option<&str>) -> RepositoryStatus {
    let parsed = memory.map(serde_json::from_str::<RepositoryStatus>).transpose();
    let parsed = parsed.unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "the saved status of the repository cannot be read: notifications may be sent a second time"
        );
        None
    });
    parsed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::LastDigest;

    #[test]
    fn a_saved_status_that_cannot_be_read_counts_as_empty() {
        let digest = LastDigest {
            day: "2026-03-02".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            until: jiff::Timestamp::UNIX_EPOCH,
        };
        let status = RepositoryStatus { digest: Some(digest), ..RepositoryStatus::default() };
        let text = serde_json::to_string(&status).expect("JSON");
        assert_eq!(parse(Some(&text)), status);
        assert_eq!(parse(Some("{")), RepositoryStatus::default());
        assert_eq!(parse(None), RepositoryStatus::default());
    }
}
