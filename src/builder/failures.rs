//! What a failed run means: is it the template's fault, would another try end alike, and what is to be done. Pure;
//! `harvest` asks it when a run is recorded.
//!
//! Only failures of the template count toward the limit. Causes outside of it (capacity, quotas, throttling, a
//! download, a node that went away) pass or are removed by somebody without a commit: they are tried again, with
//! growing pauses, for as long as it takes.

use opsy_runner::request::Command;

use super::history;
use crate::engine::{Failure, Run, RunState};

pub const TEMPLATE: &str = "Template";
pub const TRANSIENT: &str = "Transient";
pub const FINAL: &str = "Final";

/// Error codes of AWS that say nothing about the template, without `Server.` and `Client.`.
const CODES: &[&str] = &[
    // No room at present.
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity",
    "InsufficientVolumeCapacity",
    "SpotInstanceTermination",
    "SpotMaxPriceTooLow",
    // Quotas: other builds end, or the quota is raised.
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "MaxSpotFleetRequestCountExceeded",
    "VolumeLimitExceeded",
    "SnapshotLimitExceeded",
    "PendingSnapshotLimitExceeded",
    "ConcurrentSnapshotLimitExceeded",
    "SnapshotCreationPerVolumeRateExceeded",
    "ResourceLimitExceeded",
    "ResourceCountExceeded",
    "AddressLimitExceeded",
    "SecurityGroupLimitExceeded",
    "SecurityGroupsPerInstanceLimitExceeded",
    "NetworkInterfaceLimitExceeded",
    "AMIQuotaExceeded",
    // Too many calls.
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SlowDown",
    // AWS itself.
    "Unavailable",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "InternalError",
    "InternalFailure",
    "InternalServiceError",
    "InternalServerError",
    // Credentials and permissions are somebody's to renew or grant.
    "RequestExpired",
    "ExpiredToken",
    "ExpiredTokenException",
    "AuthFailure",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "OptInRequired",
    "PendingVerification",
    "UnauthorizedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "NoCredentialProviders",
];

/// Words, in lower case, that say the same without a code of AWS.
const WORDS: &[&str] = &[
    "rate limit",
    "no such host",
    "temporary failure in name resolution",
    "i/o timeout",
    "tls handshake timeout",
    "connection refused",
    "connection reset by peer",
    "network is unreachable",
    "client.timeout exceeded",
    "unexpected eof",
    "spot instance was terminated",
    "instance-terminated-no-capacity",
    "no valid credential sources",
    "failed to refresh cached credentials",
    // A read of EC2 did not see the new image yet: the current plugin gives up, Packer 1.6 waits.
    "unknown error waiting for ami",
    // A plugin is installed where Packer runs, not in the template.
    "likely part of a plugin that",
    "missing plugins",
];

/// How the error of a run begins that made several images of one lane; the same inputs make them again.
pub const AMBIGUOUS: &str = "AmbiguousResult";

/// Scripts print what they like: their failure is the template's, whatever the words.
const SCRIPT_FAILED: &str = "exit status";

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: &'static str,
    pub advice: Option<String>,
}

/// Judges a run that was recorded with this result; nothing of one that is no failure.
pub fn judge(run: &Run, result: &str, errors: &[String]) -> Option<Verdict> {
    let cause = errors.first().map(String::as_str).unwrap_or_default();
    let class = match (result, &run.state) {
        (history::LOST, _) => TRANSIENT,
        (history::FAILED, RunState::Failed(Failure::Evicted(_) | Failure::NotStarted(_))) => TRANSIENT,
        (history::FAILED, RunState::Failed(Failure::OutOfMemory)) => TEMPLATE,
        (history::FAILED, _) => of_text(run.said.command, cause),
        // The first line says that it took too long; what Packer complained of says why.
        (history::TIMED_OUT, _) if run.said.errors.iter().any(|error| is_transient(error)) => TRANSIENT,
        (history::TIMED_OUT, _) => TEMPLATE,
        _ => return None,
    };
    Some(Verdict { class, advice: advice(&errors.join("\n")) })
}

fn of_text(command: Option<Command>, cause: &str) -> &'static str {
    if is_name_taken(cause) || cause.starts_with(AMBIGUOUS) {
        FINAL
    } else if is_transient(cause) || (command == Some(Command::Init) && !names_a_line(cause)) {
        // What `packer init` does beside reading the template is to download.
        TRANSIENT
    } else {
        TEMPLATE
    }
}

fn is_transient(text: &str) -> bool {
    if text.contains(SCRIPT_FAILED) {
        return false;
    }
    let lower = text.to_lowercase();
    let mut tokens = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let is_code = |token: &str| {
        let token = token.trim_matches('.');
        let code = token.strip_prefix("Server.").or(token.strip_prefix("Client.")).unwrap_or(token);
        // The reason of an image that ends as failed, for want of rights to a key above all: it is not AWS's failure.
        CODES.contains(&code) && token != "Client.InternalError"
    };
    tokens.any(is_code) || WORDS.iter().any(|words| lower.contains(words))
}

/// `on node.pkr.hcl line 3`: the template itself is wrong.
fn names_a_line(text: &str) -> bool {
    text.contains(" line ") && (text.contains(".hcl") || text.contains(".json"))
}

fn is_name_taken(text: &str) -> bool {
    let lower = text.to_lowercase();
    text.contains("InvalidAMIName.Duplicate")
        || (lower.contains("existing ami") && (lower.contains("name") || lower.contains("is used by")))
}

/// What to do about a known cause.
fn advice(errors: &str) -> Option<String> {
    let lower = errors.to_lowercase();
    let has = |words: &str| lower.contains(words);
    if is_name_taken(errors) {
        return Some("each image needs a name of its own: end ami_name with {{timestamp}}".to_owned());
    }
    if let Some(variable) = undeclared(errors) {
        return Some(undeclared_words(variable));
    }
    let words = if has("likely part of a plugin that") || has("missing plugins") {
        "install the plugin where Packer runs, or name it in required_plugins of the template, so that packer init \
         installs it"
    } else if has("rate limit") && has("github") {
        "set PACKER_GITHUB_API_TOKEN in the Secret of spec.builder.secret, or install the plugins where Packer runs"
    } else if has("unauthorizedoperation") || has("accessdenied") {
        "allow the action to the build's credentials: deploy/iam/build.json has what a build needs"
    } else if has("vpcidnotspecified") || has("no default vpc") || has("default subnet") {
        "there is no default VPC or subnet: name subnet_id, or subnet_filter, in the template"
    } else {
        return None;
    };
    Some(words.to_owned())
}

/// The variable that Packer was given and the template does not declare.
fn undeclared(errors: &str) -> Option<&str> {
    let (before, _) = errors.split_once("\" variable was passed")?;
    before.rsplit_once('"').map(|(_, name)| name)
}

fn undeclared_words(variable: &str) -> String {
    let from = match variable {
        "ami_id" | "region" => {
            "the base image of spec.amiFilters or spec.baseAMI is passed as the variables ami_id and region: declare \
             both in the template, or remove the field"
        }
        _ => "it is named in spec.builder.commands (variables or args)",
    };
    format!("declare it in the template: variable \"{variable}\" {{ type = string }}; {from}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_template_can_help_counts() {
        let build = Some(Command::Build);
        for (command, cause, class) in [
            (build, "Script exited with non-zero exit status: 7. Allowed exit codes are: [0]", TEMPLATE),
            (build, "Script exited with non-zero exit status: 1: curl: connection refused", TEMPLATE),
            (
                build,
                "Error launching source instance: InsufficientInstanceCapacity: We have not enough",
                TRANSIENT,
            ),
            (build, "Server.InsufficientInstanceCapacity: Insufficient capacity.", TRANSIENT),
            (build, "operation error EC2: RunInstances, api error VcpuLimitExceeded: You have", TRANSIENT),
            (build, "RequestLimitExceeded: Request limit exceeded.\n\tstatus code: 503", TRANSIENT),
            (build, "UnauthorizedOperation: You are not authorized to perform: ec2:RunInstances", TRANSIENT),
            (
                build,
                "Post \"https://ec2.us-east-1.amazonaws.com/\": dial tcp: lookup ec2: no such host",
                TRANSIENT,
            ),
            (build, "InvalidAMIID.Unavailable: The image ID 'ami-1' is not available", TEMPLATE),
            (
                build,
                "Unknown error waiting for AMI; operation error EC2: DescribeImages, https response error StatusCode: \
                 400, RequestID: b-1, api error InvalidAMIID.NotFound: The image id '[ami-1]' does not exist",
                TRANSIENT,
            ),
            (build, "Error creating AMI: InvalidParameterValue: AMI names must be", TEMPLATE),
            (
                build,
                "Error waiting for AMI: ResourceNotReady: {\n  Code: \"Client.InternalError\",\n}",
                TEMPLATE,
            ),
            (build, "Server.InternalError: Internal error on launch", TRANSIENT),
            (build, "Timeout waiting for SSH.", TEMPLATE),
            (build, "AmbiguousResult: the build made 2 images for x86_64 in us-east-1", FINAL),
            (build, "Error: AMI Name: 'golden' is used by an existing AMI: ami-1", FINAL),
            (
                build,
                "Error registering AMI: InvalidAMIName.Duplicate: AMI name golden is already in use",
                FINAL,
            ),
            (
                Some(Command::Validate),
                "Error: Failed to initialize build \"amazon-ebs\"\n\nThe builder amazon-ebs is unknown by Packer, and \
                 is likely part of a plugin that\nis not installed.",
                TRANSIENT,
            ),
            (Some(Command::Validate), "Error: Unsupported argument\n\n  on a.pkr.hcl line 21:", TEMPLATE),
            (
                Some(Command::Init),
                "Failed getting the \"github.com/hashicorp/amazon\" plugin:\n403",
                TRANSIENT,
            ),
            (Some(Command::Init), "Error: Unsupported block type\n\n  on a.pkr.hcl line 2:", TEMPLATE),
        ] {
            assert_eq!(of_text(command, cause), class, "{cause}");
        }
    }

    #[test]
    fn a_known_cause_says_what_to_do() {
        for (error, words) in [
            ("AMI Name: 'golden' is used by an existing AMI: ami-1", Some("{{timestamp}}")),
            (
                "A \"ami_id\" variable was passed in the command line but was not found",
                Some("spec.amiFilters"),
            ),
            (
                "A \"size\" variable was passed in the command line but was not found",
                Some("variable \"size\""),
            ),
            ("rate limited: api.github.com: 403 API rate limit exceeded", Some("PACKER_GITHUB_API_TOKEN")),
            ("VPCIdNotSpecified: No default VPC for this user", Some("subnet_id")),
            ("UnauthorizedOperation: You are not authorized", Some("deploy/iam/build.json")),
            ("Script exited with non-zero exit status: 7", None),
        ] {
            let found = advice(error);
            let fits = words
                .map_or(found.is_none(), |words| found.as_ref().is_some_and(|found| found.contains(words)));
            assert!(fits, "{error}: {found:?}");
        }
    }
}
