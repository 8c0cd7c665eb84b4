//! From a node or an instance to the image that it runs: a node of the cluster by the label that EKS sets, every other
//! machine by EC2. Read-only.

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;

use super::ec2::{Answer, By, Ec2};
use super::origin::Machine;
use crate::api::{ImageId, InstanceId, Region};
use crate::aws::Instance;
use crate::cli::place::{ClusterPlace, Place};
use crate::cli::target;
use crate::engine::kubernetes::nodes;

/// The label with the region, which the cloud provider sets on nodes.
const REGION: &str = "topology.kubernetes.io/region";

/// Where machines are looked up.
pub struct Machines<'a> {
    pub place: Option<&'a Place>,
    /// The error says why EC2 cannot be asked.
    pub ec2: Result<&'a Ec2, &'a str>,
}

/// An image, and the machine from which it was found.
pub struct Found {
    pub image: ImageId,
    pub machine: Option<Machine>,
    /// The region of the machine, which has the image, too.
    pub region: Option<Region>,
}

impl Machines<'_> {
    /// The image of an instance, as EC2 reports it.
    pub async fn instance(&self, id: &InstanceId) -> anyhow::Result<Found> {
        let found = self.look_up(By::Id, id.as_str(), None).await;
        let (region, Instance { image, state, id }) =
            found.map_err(|why| anyhow!("the image of instance {id} is unknown: {why}"))?;
        let machine = Machine::Instance { id, region: region.clone(), state };
        Ok(Found { image, machine: Some(machine), region: Some(region) })
    }

    /// The image of a node. Without a cluster, EC2 knows the node if it has the private DNS name of its instance.
    pub async fn node(&self, name: &str) -> anyhow::Result<Found> {
        if let Some(Place::Cluster(place)) = self.place {
            return self.of_cluster(name, place).await;
        }
        match self.look_up(By::PrivateDnsName, name, None).await {
            Ok((region, Instance { image, id, .. })) => {
                let machine = Machine::Node { name: name.to_owned(), instance: Some(id), group: None };
                Ok(Found { image, machine: Some(machine), region: Some(region) })
            }
            Err(why) => bail!(
                "node/{name} was not found without a cluster: {why}; name the cluster with --kubeconfig or --context"
            ),
        }
    }

    async fn of_cluster(&self, name: &str, place: &ClusterPlace) -> anyhow::Result<Found> {
        let found = Api::<Node>::all(place.cluster.client.clone()).get_opt(name).await;
        let found =
            found.map_err(target::refused)?.with_context(|| format!("no node {name:?} in {place}"))?;
        let labels = found.metadata.labels.unwrap_or_default();
        let region = labels.get(REGION).and_then(|region| Region::parse(region.as_str()).ok());
        let provider = found.spec.and_then(|spec| spec.provider_id);
        let instance = provider.as_deref().and_then(|id| InstanceId::parse(id.rsplit('/').next()?).ok());
        let node = |instance: Option<String>| Machine::Node {
            name: name.to_owned(),
            instance,
            group: labels.get(nodes::GROUP).cloned(),
        };
        if let Some(image) = labels.get(nodes::IMAGE) {
            let image = ImageId::parse(image.as_str())
                .with_context(|| format!("label {} of node {name}", nodes::IMAGE))?;
            return Ok(Found { image, machine: Some(node(instance.map(String::from))), region });
        }
        let unlabeled = format!(
            "node {name} has no label {}, which EKS sets on the nodes of managed groups",
            nodes::IMAGE
        );
        let Some(instance) = instance else {
            bail!("{unlabeled}, and its providerID names no instance of EC2");
        };
        match self.look_up(By::Id, instance.as_str(), region.as_ref()).await {
            Ok((region, Instance { image, id, .. })) => {
                Ok(Found { image, machine: Some(node(Some(id))), region: Some(region) })
            }
            Err(why) => bail!("{unlabeled}, and the image of its instance {instance} is unknown: {why}"),
        }
    }

    async fn look_up(
        &self,
        by: By,
        value: &str,
        near: Option<&Region>,
    ) -> Result<(Region, Instance), String> {
        let Answer { found, notes } = self.ec2?.instance(by, value, near).await;
        found.ok_or_else(|| notes.join("; "))
    }
}
