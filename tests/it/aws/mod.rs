//! The AWS edge against the emulated AWS: what calls it makes, what it makes of answers and faults,
//! and what is left in the account afterwards.

mod faults;
mod images;
mod leftovers;
mod node_groups;

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
    Aws::with(config(account).load().await, Timestamp::now)
}

/// The bare SDK, to look where the edge does not.
pub async fn sdk(account: &Account) -> aws_sdk_ec2::Client {
    let config: SdkConfig = config(account).load().await;
    aws_sdk_ec2::Client::new(&config)
}

fn region() -> &'static Region {
    static REGION: OnceLock<Region> = OnceLock::new();
    REGION.get_or_init(|| Region::parse("us-east-1").expect("a region"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn image(value: &Value) -> ImageId {
    ImageId::parse(text(value)).expect("an image id")
}

/// The launch template version a seeded node group runs.
fn template(seed: &Value, group: &str) -> TemplateVersion {
    let template = &seed["node_groups"][group]["launch_template"];
    let id = TemplateId::parse(text(&template["id"])).expect("a template id");
    TemplateVersion { template: id, version: text(&template["version"]) }
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
