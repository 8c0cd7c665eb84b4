//! What messages need beside the status of an object: commits, the origin of images, links.

use jiff::Timestamp;

use super::{COMMIT, Link};
use crate::api::ImageId;
use crate::api::ids::short_commit;

/// The context of an object from which its messages are made.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub now: Timestamp,
    /// The synced commit.
    pub commit: Option<&'a str>,
    /// Returns the description of a commit by its ID.
    pub change: &'a dyn Fn(&str) -> Option<Change>,
    /// Returns where an image comes from, if one of this agent's builders built it.
    pub origin: &'a dyn Fn(&str) -> Option<Origin>,
}

/// Description of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// ID of the commit. For one of Opsy's own commits, this is the last commit of a person before it.
    pub id: String,
    pub author: String,
    pub subject: String,
    /// Web page of the commit.
    pub url: Option<String>,
}

/// Which builder made an image, and from which commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub builder: String,
    pub commit: Option<String>,
}

impl Context<'_> {
    /// Returns the value of the fact about a commit: ID, author and subject.
    pub fn commit_words(&self, id: &str) -> String {
        match (self.change)(id) {
            Some(change) => format!("{} by {}: {}", short_commit(&change.id), change.author, change.subject),
            None => short_commit(id),
        }
    }

    /// Returns the link to the web page of a commit.
    pub fn commit_link(&self, id: &str) -> Option<Link> {
        let url = (self.change)(id)?.url?;
        Some(Link { label: COMMIT.to_owned(), url })
    }
}

/// Returns the link to an image in the EC2 console.
pub fn image_link(region: &str, image: &str) -> Option<Link> {
    let image = ImageId::parse(image).ok()?;
    let url = format!("{}/ec2/home?region={region}#ImageDetails:imageId={image}", console(region)?);
    Some(Link { label: format!("{image}"), url })
}

/// Returns the link to the node groups of a cluster in the EKS console.
pub fn cluster_link(region: &str, cluster: &str) -> Option<Link> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let url = format!("{}/eks/clusters/{cluster}?region={region}&selectedTab=compute", console(region)?);
    cluster.chars().all(plain).then(|| Link { label: format!("Cluster {cluster}"), url })
}

/// Returns the address of the AWS console for a region: each partition has its own.
fn console(region: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let domain = match region {
        "" => return None,
        gov if gov.starts_with("us-gov-") => "console.amazonaws-us-gov.com",
        china if china.starts_with("cn-") => "console.amazonaws.cn",
        _ => "console.aws.amazon.com",
    };
    region.chars().all(plain).then(|| format!("https://{region}.{domain}"))
}

/// Returns a number of node groups.
pub fn node_groups(count: usize) -> String {
    if count == 1 { "1 node group".to_owned() } else { format!("{count} node groups") }
}

/// Returns a duration for people.
pub fn took(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<String> {
    let seconds = to?.duration_since(from?).as_secs();
    Some(match seconds {
        ..0 => return None,
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_those_of_the_partition() {
        let url = |region| image_link(region, "ami-0123456789abcdef0").map(|link| link.url);
        assert!(
            url("us-gov-west-1")
                .is_some_and(|url| url.starts_with("https://us-gov-west-1.console.amazonaws-us-gov.com/"))
        );
        assert_eq!(url("eu west|<@U1>"), None);
        assert_eq!(image_link("us-east-1", "ami-1|x"), None);
    }
}
