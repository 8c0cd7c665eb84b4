//! The HTTP endpoints. Every replica serves them, also one that waits for the Lease.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::inputs::Inputs;
use super::pushes;
use crate::telemetry::health::Health;
use crate::webhook::Inbox;

/// The endpoints, and what they serve and receive.
pub struct Endpoints {
    pub health: Arc<Health>,
    /// Reported pushes that are not handled yet.
    pub inbox: Inbox,
    /// Dropping them ends the endpoints.
    pub serving: Vec<AbortOnDropHandle<()>>,
}

impl Endpoints {
    /// Serves the endpoints that the flags ask for.
    ///
    /// # Errors
    /// An address cannot be listened on, or the webhook has no usable secret.
    pub async fn serve(inputs: &Inputs) -> anyhow::Result<Self> {
        let (health, inbox) = (Health::new(), Inbox::default());
        let mut serving = Vec::new();
        if let Some(address) = inputs.flags.listen {
            serving.push(health.serve(address).await?);
        }
        serving.extend(pushes::receive(inputs, &health, &inbox).await?);
        Ok(Self { health, inbox, serving })
    }
}
