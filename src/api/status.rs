//! What the statuses of both kinds have in common.

use super::conditions::Condition;
use super::notifier::Notification;
use super::{AMIRefresherStatus, PackerBuilderStatus};

/// A status, whichever kind's.
pub trait Status {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>>;
    fn notifications(&mut self) -> &mut Option<Vec<Notification>>;
}

impl Status for PackerBuilderStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}

impl Status for AMIRefresherStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}
