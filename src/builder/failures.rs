//! What a failed run means: whether the template is at fault, whether another attempt would fail in the same way, and
//! the remedy. Pure; `collect` uses it when it records a run.
//!
//! Only failures of the template count toward the limit. Other causes (capacity, quotas, throttling, a download, a lost
//! node) pass by themselves, or a person removes them without a commit. Such builds are retried without a limit, with
//! growing delays.

use opsy_runner::request::Command;

use crate::api::words::{FailureKind, RunResult};
use crate::engine::{Failure, Run, RunState};

/// Error codes of AWS whose cause is outside of the template, without the prefixes `Server.` and `Client.`.
const TRANSIENT_CODES: &[&str] = &[
    // No capacity at present.
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity",
    "InsufficientVolumeCapacity",
    "SpotInstanceTermination",
    "SpotMaxPriceTooLow",
    // Quotas: other builds end, or a person raises the quota.
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
    // Throttling.
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SlowDown",
    // Failures of AWS itself.
    "Unavailable",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "InternalError",
    "InternalFailure",
    "InternalServiceError",
    "InternalServerError",
    // A person renews credentials and grants permissions.
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

/// Phrases, in lower case, that indicate such a cause without an error code of AWS.
const TRANSIENT_PHRASES: &[&str] = &[
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
    // EC2 did not show the new image yet. The current plugin gives up then; Packer 1.6 waits.
    "unknown error waiting for ami",
    // A plugin is installed where Packer runs, not in the template.
    "likely part of a plugin that",
    "missing plugins",
];

/// Prefix of the error of a run that made several images for one lane. The same inputs would make them again.
pub const AMBIGUOUS: &str = "AmbiguousResult";

/// Marks the failure of a script, which is always a failure of the template: a script can print any phrase.
const SCRIPT_FAILED: &str = "exit status";

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub kind: FailureKind,
    pub advice: Option<String>,
}

/// Judges a run that is recorded with this result. Returns `None` if it did not fail.
pub fn judge(run: &Run, result: RunResult, errors: &[String]) -> Option<Verdict> {
    let cause = errors.first().map(String::as_str).unwrap_or_default();
    let kind = match (result, &run.state) {
        (RunResult::Lost, _) => FailureKind::Transient,
        (RunResult::Failed, RunState::Failed(Failure::Evicted(_) | Failure::NotStarted(_))) => {
            FailureKind::Transient
        }
        (RunResult::Failed, RunState::Failed(Failure::OutOfMemory)) => FailureKind::Template,
        (RunResult::Failed, _) => classify(run.details.command, cause),
        // The first error only states that the build was stopped; Packer's own errors contain the cause.
        (RunResult::TimedOut, _) if run.details.errors.iter().any(|error| is_transient(error)) => {
            FailureKind::Transient
        }
        (RunResult::TimedOut, _) => FailureKind::Template,
        _ => return None,
    };
    Some(Verdict { kind, advice: advice(&errors.join("\n")) })
}

fn classify(command: Option<Command>, cause: &str) -> FailureKind {
    if is_name_taken(cause) || cause.starts_with(AMBIGUOUS) {
        FailureKind::Final
    } else if is_transient(cause) || (command == Some(Command::Init) && !points_at_a_line(cause)) {
        // Apart from reading the template, `packer init` only downloads.
        FailureKind::Transient
    } else {
        FailureKind::Template
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
        // `Client.InternalError` is the state reason of a failed image, mostly for lack of permissions for a key. It is
        // not a failure of AWS.
        TRANSIENT_CODES.contains(&code) && token != "Client.InternalError"
    };
    tokens.any(is_code) || TRANSIENT_PHRASES.iter().any(|words| lower.contains(words))
}

/// Returns whether an error points at a line of the template, such as `on node.pkr.hcl line 3`: the template is wrong.
fn points_at_a_line(text: &str) -> bool {
    text.contains(" line ") && (text.contains(".hcl") || text.contains(".json"))
}

fn is_name_taken(text: &str) -> bool {
    let lower = text.to_lowercase();
    text.contains("InvalidAMIName.Duplicate")
        || (lower.contains("existing ami") && (lower.contains("name") || lower.contains("is used by")))
}

/// Returns the remedy for a known cause.
fn advice(errors: &str) -> Option<String> {
    let lower = errors.to_lowercase();
    let has = |words: &str| lower.contains(words);
    if is_name_taken(errors) {
        return Some("each image needs a unique name: end ami_name with {{timestamp}}".to_owned());
    }
    if let Some(variable) = undeclared_variable(errors) {
        return Some(undeclared_advice(variable));
    }
    let words = if has("likely part of a plugin that") || has("missing plugins") {
        "install the plugin where Packer runs, or add it to required_plugins in the template, so that packer \
         init installs it"
    } else if has("rate limit") && has("github") {
        "set PACKER_GITHUB_API_TOKEN in the Secret that spec.builder.secret names, or install the plugins \
         where Packer runs"
    } else if has("unauthorizedoperation") || has("accessdenied") {
        "grant the permission to the credentials of the build: deploy/iam/build.json lists what a build needs"
    } else if has("vpcidnotspecified") || has("no default vpc") || has("default subnet") {
        "there is no default VPC or subnet: set subnet_id or subnet_filter in the template"
    } else {
        return None;
    };
    Some(words.to_owned())
}

/// Returns the variable that was passed to Packer but that the template does not declare.
fn undeclared_variable(errors: &str) -> Option<&str> {
    let (before, _) = errors.split_once("\" variable was passed")?;
    before.rsplit_once('"').map(|(_, name)| name)
}

fn undeclared_advice(variable: &str) -> String {
    let from = match variable {
        "ami_id" | "region" => {
            "the base image of spec.amiFilters or spec.baseAMI is passed as the variables ami_id and region: \
             declare both in the template, or remove the field"
        }
        _ => "it is set in spec.builder.commands (variables or args)",
    };
    format!("declare it in the template: variable \"{variable}\" {{ type = string }}; {from}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind::{Final, Template, Transient};

    #[test]
    fn only_what_the_template_can_help_counts() {
        let build = Some(Command::Build);
        for (command, cause, kind) in [
            (build, "Script exited with non-zero exit status: 7. Allowed exit codes are: [0]", Template),
            (build, "Script exited with non-zero exit status: 1: curl: connection refused", Template),
            (
                build,
                "Error launching source instance: InsufficientInstanceCapacity: We have not enough",
                Transient,
            ),
            (build, "Server.InsufficientInstanceCapacity: Insufficient capacity.", Transient),
            (build, "operation error EC2: RunInstances, api error VcpuLimitExceeded: You have", Transient),
            (build, "RequestLimitExceeded: Request limit exceeded.\n\tstatus code: 503", Transient),
            (build, "UnauthorizedOperation: You are not authorized to perform: ec2:RunInstances", Transient),
            (
                build,
                "Post \"https://ec2.us-east-1.amazonaws.com/\": dial tcp: lookup ec2: no such host",
                Transient,
            ),
            (build, "InvalidAMIID.Unavailable: The image ID 'ami-1' is not available", Template),
            (
                build,
                "Unknown error waiting for AMI; operation error EC2: DescribeImages, https response error \
                 StatusCode: 400, RequestID: b-1, api error InvalidAMIID.NotFound: The image id '[ami-1]' \
                 does not exist",
                Transient,
            ),
            (build, "Error creating AMI: InvalidParameterValue: AMI names must be", Template),
            (
                build,
                "Error waiting for AMI: ResourceNotReady: {\n  Code: \"Client.InternalError\",\n}",
                Template,
            ),
            (build, "Server.InternalError: Internal error on launch", Transient),
            (build, "Timeout waiting for SSH.", Template),
            (build, "AmbiguousResult: the build made 2 images for x86_64 in us-east-1", Final),
            (build, "Error: AMI Name: 'golden' is used by an existing AMI: ami-1", Final),
            (
                build,
                "Error registering AMI: InvalidAMIName.Duplicate: AMI name golden is already in use",
                Final,
            ),
            (
                Some(Command::Validate),
                "Error: Failed to initialize build \"amazon-ebs\"\n\nThe builder amazon-ebs is unknown by \
                 Packer, and is likely part of a plugin that\nis not installed.",
                Transient,
            ),
            (Some(Command::Validate), "Error: Unsupported argument\n\n  on a.pkr.hcl line 21:", Template),
            (
                Some(Command::Init),
                "Failed getting the \"github.com/hashicorp/amazon\" plugin:\n403",
                Transient,
            ),
            (Some(Command::Init), "Error: Unsupported block type\n\n  on a.pkr.hcl line 2:", Template),
        ] {
            assert_eq!(classify(command, cause), kind, "{cause}");
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
