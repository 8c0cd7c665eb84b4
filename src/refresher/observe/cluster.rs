//! Reads the cluster in which the agent runs, as far as a plan needs it. Called by `observe`.

use super::super::Context;
use super::super::cluster_view::{ClusterNeed, ClusterView};
use crate::api::Seen;
use crate::engine::EngineError;

pub async fn read(mut view: ClusterView, need: ClusterNeed, ctx: &Context) -> ClusterView {
    let Some(cluster) = &ctx.nodes else { return ClusterView::new(false) };
    match need {
        ClusterNeed::Nodes { group } => {
            let nodes = seen(cluster.of_group(&group).await);
            view.nodes.insert(group, nodes);
        }
        ClusterNeed::NodesOn { group, instances } => {
            let nodes = seen(cluster.on_instances(&instances).await);
            view.nodes.insert(group, nodes);
        }
        ClusterNeed::Hosts => view.hosts = Some(seen(cluster.hosts().await)),
        ClusterNeed::Pods { group, nodes } => {
            let pods = seen(cluster.pods(&nodes).await);
            view.pods.insert(group, pods);
        }
    }
    view
}

fn seen<T>(read: Result<T, EngineError>) -> Seen<T> {
    match read {
        Ok(value) => Seen::Is(value),
        Err(EngineError { class, message }) => Seen::Unknown(class, message),
    }
}
