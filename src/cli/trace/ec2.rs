//! What EC2 reports about an image or an instance, in each region that may have it. Read-only. A failed call is a note,
//! since the other regions and status may know the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::registered::Registered;
use crate::api::network::Network;
use crate::api::{ImageId, Region};
use crate::aws::{Aws, Filter, Instance};
use crate::cli::objects::Object;
use crate::settings;

/// The clients, and the regions to ask.
pub struct Ec2 {
    aws: Aws,
    /// The region of the flag.
    named: Option<Region>,
    /// The regions of the objects and of their images.
    of_objects: BTreeSet<Region>,
}

/// What was found, and a note for everything that was not.
pub struct Answer<T> {
    pub found: Option<T>,
    pub notes: Vec<String>,
}

/// By what an instance is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Id,
    /// Several instances can have the same name.
    PrivateDnsName,
}

/// What the regions responded.
#[derive(Debug)]
struct Responses<T> {
    /// In the order of the regions.
    found: Vec<(Region, T)>,
    notes: Vec<String>,
}

impl By {
    const fn filter(self) -> &'static str {
        match self {
            Self::Id => "instance-id",
            Self::PrivateDnsName => "private-dns-name",
        }
    }
}

impl Ec2 {
    /// Creates the clients with the credentials of the environment. Nothing is sent yet.
    ///
    /// # Errors
    /// The environment or the AWS profile is not valid.
    pub async fn new(network: &Network, named: Option<Region>, objects: &[Object]) -> Result<Self, String> {
        let aws =
            Aws::from_env(settings::aws_profile()?, network).await.map_err(|error| error.to_string())?;
        Ok(Self { aws, named, of_objects: objects.iter().flat_map(regions_of).collect() })
    }

    /// Reads an image with its tags. `near` is the region of a machine that runs it.
    pub async fn image(&self, id: &ImageId, near: Option<&Region>) -> Answer<Registered> {
        let ids = std::slice::from_ref(id);
        let call = |region: Region| async move { self.aws.images_by_id(&region, ids).await };
        let asked = self.regions(near);
        let Responses { mut found, mut notes } = ask(&asked, false, call).await;
        let found = found.pop().map(|(region, image)| Registered::new(&region, &image));
        if found.is_none() && notes.is_empty() {
            notes.push(unknown(&format!("no image {id}, or it is not shared with this account"), &asked));
        }
        Answer { found, notes }
    }

    /// Finds the instance with this ID or this name.
    pub async fn instance(&self, by: By, value: &str, near: Option<&Region>) -> Answer<(Region, Instance)> {
        let wanted = &Filter { name: by.filter().to_owned(), values: vec![value.to_owned()] };
        let call = |region: Region| async move { self.aws.instances(&region, wanted).await };
        let asked = self.regions(near);
        let Responses { mut found, mut notes } = ask(&asked, by == By::PrivateDnsName, call).await;
        if found.len() > 1 {
            let ids: Vec<&str> = found.iter().map(|(_, instance)| instance.id.as_str()).collect();
            notes.push(format!("several instances are named {value}; trace one of them: {}", ids.join(", ")));
            return Answer { found: None, notes };
        }
        let found = found.pop();
        if found.is_none() && notes.is_empty() {
            notes.push(unknown(&format!("no instance {value}"), &asked));
        }
        Answer { found, notes }
    }

    fn regions(&self, near: Option<&Region>) -> Vec<Region> {
        let config = self.aws.config();
        let configured = config.region().and_then(|region| Region::parse(region.as_ref()).ok());
        regions(self.named.as_ref(), near, &self.of_objects, configured)
    }
}

/// Calls EC2 in these regions at the same time. An ID exists once, so unless all responses are needed, the first region
/// that has it is enough. Regions with the same failure share a note.
async fn ask<T, E, F>(asked: &[Region], needs_all: bool, call: impl Fn(Region) -> F) -> Responses<T>
where
    E: Display,
    F: Future<Output = Result<Vec<T>, E>>,
{
    let one = |region: &Region| {
        let (region, response) = (region.clone(), call(region.clone()));
        async move { (region, response.await) }
    };
    let mut responses: FuturesUnordered<_> = asked.iter().map(one).collect();
    let (mut found, mut failures) = (Vec::new(), BTreeMap::<String, BTreeSet<Region>>::new());
    while let Some((region, response)) = responses.next().await {
        match response {
            Ok(items) => found.extend(items.into_iter().map(|item| (region.clone(), item))),
            Err(error) => drop(failures.entry(error.to_string()).or_default().insert(region)),
        }
        if !found.is_empty() && !needs_all {
            return Responses { found, notes: Vec::new() };
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let note = |(error, regions): (String, BTreeSet<Region>)| {
        format!("EC2 in {} was not read: {error}", list(&regions))
    };
    Responses { found, notes: failures.into_iter().map(note).collect() }
}

/// The regions to ask: that of the flag, else that of the machine, else those of the objects, else that of the environment.
fn regions(
    named: Option<&Region>,
    near: Option<&Region>,
    of_objects: &BTreeSet<Region>,
    configured: Option<Region>,
) -> Vec<Region> {
    match named.or(near) {
        Some(region) => vec![region.clone()],
        None if of_objects.is_empty() => configured.into_iter().collect(),
        None => of_objects.iter().cloned().collect(),
    }
}

/// The regions that an object names, and those of its active images.
fn regions_of(object: &Object) -> Vec<Region> {
    let images = object.builder_status().images.into_iter().flatten().map(|lane| lane.region);
    let own = object.spec["region"].as_str().map(str::to_owned);
    own.into_iter().chain(images).filter_map(|region| Region::parse(region).ok()).collect()
}

fn unknown(what: &str, asked: &[Region]) -> String {
    format!("EC2 in {} has {what}; name another region with --region", list(asked))
}

fn list<'a>(regions: impl IntoIterator<Item = &'a Region>) -> String {
    regions.into_iter().map(Region::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Key, Kind, ObjectKey};

    fn region(name: &str) -> Region {
        Region::parse(name).expect("a region")
    }

    #[test]
    fn a_known_region_is_asked_alone_and_that_of_the_environment_if_there_is_no_other() {
        let (two, none) = (BTreeSet::from([region("eu-west-1"), region("us-east-1")]), BTreeSet::new());
        for (named, near, of_objects, configured, expected) in [
            (Some("ap-south-1"), Some("eu-north-1"), &two, Some("us-west-2"), "ap-south-1"),
            (None, Some("eu-north-1"), &two, Some("us-west-2"), "eu-north-1"),
            (None, None, &two, Some("us-west-2"), "eu-west-1, us-east-1"),
            (None, None, &none, Some("us-west-2"), "us-west-2"),
            (None, None, &none, None, ""),
        ] {
            let (named, near) = (named.map(region), near.map(region));
            let asked = regions(named.as_ref(), near.as_ref(), of_objects, configured.map(region));
            assert_eq!(list(&asked), expected);
        }
    }

    #[tokio::test]
    async fn the_first_region_that_has_an_id_is_enough_and_all_are_asked_for_a_name() {
        let asked = ["ap-south-1", "eu-west-1", "us-east-1", "us-west-2"].map(region);
        let call = |last: Option<Vec<u8>>| {
            move |region: Region| {
                let last = last.clone();
                async move {
                    match (region.as_str(), last) {
                        ("ap-south-1" | "us-east-1", _) => Err("denied"),
                        ("eu-west-1", _) => Ok(vec![2]),
                        (_, Some(items)) => Ok(items),
                        (_, None) => std::future::pending().await,
                    }
                }
            }
        };
        let first = ask(&asked, false, call(None)).await;
        assert_eq!(first.found, [(region("eu-west-1"), 2)], "one region never responds");
        assert_eq!(first.notes, Vec::<String>::new(), "the other regions do not matter");
        let all = ask(&asked, true, call(Some(vec![7]))).await;
        assert_eq!(all.found, [(region("eu-west-1"), 2), (region("us-west-2"), 7)]);
        assert_eq!(all.notes, ["EC2 in ap-south-1, us-east-1 was not read: denied"]);
    }

    #[test]
    fn an_object_has_its_own_region_and_those_of_its_images() {
        let key = Key { namespace: "default".to_owned(), name: "node".to_owned() };
        let lane = |region: &str| json!({"region": region, "architecture": "x86_64", "id": "ami-00000001"});
        let status = json!({"images": [lane("eu-west-1"), lane("not a region")]});
        let object =
            Object::new(ObjectKey { kind: Kind::PackerBuilder, key }, json!({"region": "us-east-1"}), status);
        assert_eq!(list(&regions_of(&object)), "us-east-1, eu-west-1");
    }
}
