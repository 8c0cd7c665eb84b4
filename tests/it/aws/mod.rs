//! The AWS edge against the emulated AWS: which calls it makes, how it handles responses and faults, and what is in the
//! account afterwards.

mod faults;
mod images;
mod node_groups;
mod orphans;

use std::sync::OnceLock;

use aws_config::{ConfigLoader, SdkConfig};
use aws_credential_types::Credentials;
use jiff::Timestamp;
use opsy::api::{ImageId, Region, TemplateId};
use opsy::aws::{self, Aws, Tags, TemplateVersion};
use serde_json::Value;

use crate::bed::{Account, bed};

const CLUSTER: &str = "demo";

pub fn config(account: &Account) -> ConfigLoader {
    let key = account.env()["AWS_ACCESS_KEY_ID"].clone();
    aws::defaults()
        .endpoint_url(&bed().endpoint)
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(Credentials::new(key, "emulated", None, None, "test"))
}

pub async fn edge(account: &Account) -> Aws {
    edge_at(account, Timestamp::now).await
}

/// The edge with this clock.
pub async fn edge_at(account: &Account, now: fn() -> Timestamp) -> Aws {
    Aws::with(config(account).load().await, now)
}

/// An SDK client, for calls that the edge does not make.
pub async fn sdk(account: &Account) -> aws_sdk_ec2::Client {
    let config: SdkConfig = config(account).load().await;
    aws_sdk_ec2::Client::new(&config)
}

fn region() -> &'static Region {
    static REGION: OnceLock<Region> = OnceLock::new();
    REGION.get_or_init(|| Region::parse("us-east-1").expect("a region"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

fn image(value: &Value) -> ImageId {
    ImageId::parse(text(value)).expect("an image id")
}

/// The launch template version of a seeded node group.
fn template(seed: &Value, group: &str) -> TemplateVersion {
    let template = &seed["node_groups"][group]["launch_template"];
    let id = TemplateId::parse(text(&template["id"])).expect("a template id");
    TemplateVersion { template: id, version: text(&template["version"]) }
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
