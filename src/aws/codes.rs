//! Error codes and phrases that distinguish responses of EC2, EKS and EC2 Auto Scaling: the rows of the table in `error`. Those that all
//! services share are in `api::aws_codes`.

/// The signature does not match: the secret key or the clock is wrong.
pub const UNSIGNED: &[&str] = &["SignatureDoesNotMatch", "InvalidSignatureException"];

/// The code for expired credentials that a wrong clock also causes: the request was signed too long ago.
pub const TOO_OLD: &str = "RequestExpired";

/// Codes of EKS and EC2 Auto Scaling for many kinds of refusals. Only the message has the reason.
pub const VAGUE: &[&str] =
    &["InvalidRequestException", "InvalidParameterException", "ClientException", "ValidationError"];

/// Phrases in such a message, in lower case: the caller may not launch instances with the group's launch template.
pub const NOT_ALLOWED: &[&str] = &["not authorized", "authorization failure", "do not have permission"];

/// EKS and EC2 Auto Scaling test the launch template with the permissions of the caller. These permissions may be
/// missing.
pub const LAUNCH: &str = "ec2:RunInstances, ec2:CreateTags, iam:PassRole";

/// A phrase in a denial of EC2 Auto Scaling, in lower case: these permissions are missing, not that of the call.
pub const USES_TEMPLATE: &str = "not authorized to use launch template";

/// A phrase in a vague message of EC2 Auto Scaling, in lower case: the group does not exist.
pub const NO_GROUP: &str = "autoscalinggroup name not found";

/// A phrase in a vague message of EC2 Auto Scaling, in lower case: an instance refresh locks the group.
pub const LOCKED: &str = "an active instance refresh";

/// Phrases in such a message, in lower case: the cluster is busy, which passes.
pub const BUSY: &[&str] = &[
    "is updating",
    "being updated",
    "is being",
    "in progress",
    "not in active",
    "not active",
    "not yet active",
];

/// The launch template has the maximum number of versions.
pub const FULL: &str = "VersionLimitExceeded";

/// Another writer is at work, or the resource is in use.
pub const CONFLICT: &[&str] = &[
    "ResourceInUseException",
    "InvalidAMIName.Duplicate",
    "IdempotentParameterMismatch",
    "DependencyViolation",
    "VolumeInUse",
    "InvalidGroup.InUse",
    "InvalidSnapshot.InUse",
    "IncorrectState",
    "IncorrectInstanceState",
    "ConcurrentTagAccess",
    "InstanceRefreshInProgress",
    // It has ended since it was read.
    "ActiveInstanceRefreshNotFound",
];

/// The resource does not exist: codes without the suffix that the others have.
pub const NOT_FOUND: &[&str] = &[
    "ResourceNotFoundException",
    "InvalidAMIID.Unavailable",
    "InvalidLaunchTemplateId.VersionNotFound",
    "InvalidLaunchTemplateName.NotFoundException",
];

/// The call can never succeed as written.
pub const INVALID: &[&str] = &[
    "InvalidParameter",
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "InvalidParameterException",
    "InvalidFilter",
    "InvalidRequest",
    "InvalidAction",
    "InvalidUserID.Malformed",
    "MissingParameter",
    "UnknownParameter",
    "MalformedQueryString",
    "ValidationError",
    "ValidationException",
    "BadRequestException",
    "OperationNotPermitted",
    "Unsupported",
    "UnsupportedOperation",
    "TagLimitExceeded",
    "IrreversibleInstanceRefresh",
    FULL,
];

/// EKS reports an invalid parameter while the cluster itself is being upgraded, which passes.
pub const CLUSTER_UPGRADING: &str = "should be equal to Cluster kubernetes version";
