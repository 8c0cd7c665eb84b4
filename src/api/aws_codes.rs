//! Error codes with one meaning in every AWS service that Opsy calls, for every module that reads a response of AWS. Pure.

/// IAM does not allow the call.
pub const DENIED: &[&str] = &[
    "UnauthorizedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "NotAuthorized",
];

/// AWS does not know the credentials, or their account may not be used here.
pub const REJECTED: &[&str] = &[
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
    "InvalidSecurity",
];

/// The credentials have expired.
pub const EXPIRED: &[&str] = &["RequestExpired", "ExpiredToken", "ExpiredTokenException"];

/// Too many calls: a limit of the account, not a problem of the object.
pub const THROTTLED: &[&str] = &[
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "EC2ThrottledException",
    "TooManyRequestsException",
    "SlowDown",
    "Throttled",
    "KMSThrottling",
    "KMSThrottlingException",
];
