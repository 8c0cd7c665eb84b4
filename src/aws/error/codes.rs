//! The codes and the words by which AWS's answers are told apart: the rows of the table in `error`.

/// IAM does not allow the call.
pub(in crate::aws) const DENIED: &[&str] =
    &["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "NotAuthorized"];

/// The credentials are none that AWS knows, or their account may not work here.
pub(in crate::aws) const REJECTED: &[&str] = &[
    "OptInRequired",
    "Blocked",
    "PendingVerification",
    "AuthFailure",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
];

/// The signature does not fit: a wrong secret key, or a wrong clock.
pub(in crate::aws) const UNSIGNED: &[&str] = &["SignatureDoesNotMatch", "InvalidSignatureException"];

/// The credentials were good once.
pub(in crate::aws) const EXPIRED: &[&str] = &["RequestExpired", "ExpiredToken", "ExpiredTokenException"];

/// Of these, the one that the clock causes, too: the request was signed too long ago.
pub(in crate::aws) const TOO_OLD: &str = "RequestExpired";

/// EKS's codes for all that it will not do: only the message tells why.
pub(in crate::aws) const VAGUE: &[&str] =
    &["InvalidRequestException", "InvalidParameterException", "ClientException"];

/// In such a message, in lower case: the caller may not launch instances with the group's launch template.
pub(in crate::aws) const NOT_ALLOWED: &[&str] =
    &["not authorized", "authorization failure", "do not have permission"];

/// EKS tries the launch template as the caller: these are the permissions that it may lack.
pub(in crate::aws) const LAUNCH: &str = "ec2:RunInstances, ec2:CreateTags, iam:PassRole";

/// In such a message, in lower case: the cluster is busy, which ends.
pub(in crate::aws) const BUSY: &[&str] = &[
    "is updating",
    "being updated",
    "is being",
    "in progress",
    "not in active",
    "not active",
    "not yet active",
];

/// A launch template has as many versions as EC2 keeps.
pub(in crate::aws) const FULL: &str = "VersionLimitExceeded";

/// Too many calls: the account's, not the object's trouble.
pub(in crate::aws) const THROTTLED: &[&str] = &[
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "EC2ThrottledException",
    "TooManyRequestsException",
    "SlowDown",
];

/// Somebody else is at it, or the thing is in use.
pub(in crate::aws) const CONFLICT: &[&str] = &[
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
];

/// Not there, in codes that do not end like the others.
pub(in crate::aws) const NOT_FOUND: &[&str] = &[
    "ResourceNotFoundException",
    "InvalidAMIID.Unavailable",
    "InvalidLaunchTemplateId.VersionNotFound",
    "InvalidLaunchTemplateName.NotFoundException",
];

/// Will never work as written.
pub(in crate::aws) const INVALID: &[&str] = &[
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
    FULL,
];

/// EKS calls a parameter invalid while the cluster itself is being upgraded; that passes.
pub(in crate::aws) const CLUSTER_UPGRADING: &str = "should be equal to Cluster kubernetes version";
