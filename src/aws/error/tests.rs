//! The table, tested through the SDK's own parsing of the responses of each service.

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::future::ProvideCredentials as Provided;

use super::super::autoscaling::{LaunchSource, RefreshPreferences};
use super::super::fake::{Reply, Wire, json_error, region, xml_error};
use super::super::{Fresh, TemplateVersion};
use super::*;
use crate::api::{ClientToken, TemplateId};

const MAY_NOT_LAUNCH: &str = "You are not authorized to launch instances with this launch template. Encoded \
                              authorization failure message: 4GIOHlTkIaWHQD0";

async fn ec2(reply: Reply) -> AwsError {
    let aws = Wire::new([reply]).aws().await;
    aws.own_images(&region(), Fresh::Now).await.expect_err("a failed call")
}

async fn eks(reply: Reply) -> AwsError {
    let aws = Wire::new([reply]).aws().await;
    let template = TemplateId::parse("lt-0123456789abcdef0").expect("an id");
    let version = TemplateVersion { template, version: "2".to_owned() };
    let token = ClientToken::of(&["x"]);
    let update = aws.update_version(&region(), "c", "g", &version, false, &token).await;
    update.expect_err("a failed call")
}

fn transient(seconds: u64) -> Class {
    Class::Transient { after: Some(Duration::from_secs(seconds)) }
}

#[tokio::test]
async fn ec2_codes() {
    let table = [
        (503, "RequestLimitExceeded", Class::TRANSIENT),
        (503, "Unavailable", Class::TRANSIENT),
        (500, "InternalError", Class::TRANSIENT),
        (400, "Throttling", Class::TRANSIENT),
        (400, "NeverSeenBefore", Class::TRANSIENT),
        (403, "UnauthorizedOperation", Class::Denied),
        (401, "AuthFailure", Class::Denied),
        (400, "RequestExpired", transient(60)),
        (400, "InvalidAMIID.NotFound", Class::NotFound),
        (400, "InvalidAMIID.Unavailable", Class::NotFound),
        (400, "InvalidLaunchTemplateId.VersionNotFound", Class::NotFound),
        (400, "InvalidAMIID.Malformed", Class::Invalid),
        (400, "InvalidParameterValue", Class::Invalid),
        (400, "UnsupportedOperation", Class::Invalid),
        (400, "OperationNotPermitted", Class::Invalid),
        (400, "DependencyViolation", Class::Conflict),
        (400, "IdempotentParameterMismatch", Class::Conflict),
        (400, "VersionLimitExceeded", Class::Invalid),
    ];
    for (status, code, class) in table {
        let error = ec2(xml_error(status, code, "words")).await;
        assert_eq!((error.class(), error.code()), (class, Some(code)), "{code}");
    }
}

/// Returns the result with which an attempt is counted.
async fn word(reply: Reply, json: bool) -> &'static str {
    let aws = Wire::new([reply]).aws().await;
    if json {
        aws.nodegroup_names(&region(), "c", Fresh::Now).await.expect_err("a failed call");
    } else {
        aws.own_images(&region(), Fresh::Now).await.expect_err("a failed call");
    }
    aws.attempts().into_keys().next().expect("one attempt").result
}

#[tokio::test]
async fn attempts_are_counted_by_a_few_words() {
    let table = [
        (503, "RequestLimitExceeded", "throttled"),
        (400, "ThrottlingException", "throttled"),
        (429, "NeverSeenBefore", "throttled"),
        (403, "AccessDeniedException", "denied"),
        (400, "RequestExpired", "denied"),
        (404, "ResourceNotFoundException", "not_found"),
        (400, "ResourceInUseException", "conflict"),
        (400, "InvalidParameterException", "invalid"),
        (500, "InternalError", "server"),
        (400, "NeverSeenBefore", "refused"),
    ];
    for (status, code, result) in table {
        assert_eq!(word(xml_error(status, code, "words"), false).await, result, "{status} {code}");
        assert_eq!(word(json_error(status, code, "words"), true).await, result, "{status} {code}");
    }
    assert_eq!(word(Reply::Refused, false).await, "transport");
}

async fn autoscaling(status: u16, code: &str, message: &str) -> AwsError {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
    let body = format!("<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>");
    let aws = Wire::new([Reply::Answer(status, None, body)]).aws().await;
    let template = TemplateId::parse("lt-0123456789abcdef0").expect("an id");
    let version = TemplateVersion { template, version: "2".to_owned() };
    let (source, preferences) = (LaunchSource::Unknown, RefreshPreferences::default());
    let started = aws.start_refresh(&region(), "c", "g", &source, &version, &preferences).await;
    started.expect_err("a failed call")
}

#[tokio::test]
async fn autoscaling_codes() {
    let locked = "An active instance refresh with a desired configuration exists.";
    let no_version =
        "You must use a valid fully-formed launch template. Could not find the specified version 9";
    let table = [
        (400, "InstanceRefreshInProgress", "An Instance Refresh is already in progress", Class::Conflict),
        (400, "ActiveInstanceRefreshNotFound", "No in progress refresh", Class::Conflict),
        (400, "IrreversibleInstanceRefresh", "no desired configuration", Class::Invalid),
        (400, "LimitExceeded", "", Class::TRANSIENT),
        (500, "ResourceContention", "", Class::TRANSIENT),
        (400, "Throttling", "Rate exceeded", Class::TRANSIENT),
        (400, "ValidationError", "AutoScalingGroup name not found - g not found", Class::NotFound),
        (400, "ValidationError", locked, Class::Conflict),
        (400, "ValidationError", no_version, Class::Invalid),
        (403, "AccessDenied", "User is not authorized", Class::Denied),
    ];
    for (status, code, message, class) in table {
        let error = autoscaling(status, code, message).await;
        assert_eq!((error.class(), error.code()), (class, Some(code)), "{code}: {message}");
        assert_eq!(error.is_missing_version(), message == no_version, "{message}");
        assert_eq!(error.may_be_final(), code == "LimitExceeded", "{code}");
    }
    let launch =
        autoscaling(403, "AccessDenied", "You are not authorized to use launch template: lt-1").await;
    assert!(
        launch.to_string().ends_with("(permissions needed: ec2:RunInstances, ec2:CreateTags, iam:PassRole)")
    );
    let call = autoscaling(403, "AccessDenied", "User: x is not authorized").await;
    assert!(call.to_string().ends_with("(permission needed: autoscaling:StartInstanceRefresh)"), "{call}");
}

#[tokio::test]
async fn eks_codes() {
    let upgrading = "Nodegroup Kubernetes version should be equal to Cluster kubernetes version 1.31 or \
                     NodeGroup kubernetes version 1.30";
    let table = [
        (429, "ThrottlingException", "Rate exceeded", Class::TRANSIENT),
        (500, "ServerException", "", Class::TRANSIENT),
        (503, "ServiceUnavailableException", "", Class::TRANSIENT),
        (400, "InvalidRequestException", "the cluster is updating", Class::TRANSIENT),
        (400, "InvalidRequestException", "Volume of size 10GB is smaller than snapshot", Class::TRANSIENT),
        (400, "InvalidRequestException", MAY_NOT_LAUNCH, Class::Denied),
        (400, "ClientException", MAY_NOT_LAUNCH, Class::Denied),
        (400, "ClientException", "", Class::TRANSIENT),
        (400, "InvalidParameterException", upgrading, Class::TRANSIENT),
        (400, "InvalidParameterException", "no such field", Class::Invalid),
        (409, "ResourceInUseException", "not in Active State", Class::Conflict),
        (404, "ResourceNotFoundException", "No node group found", Class::NotFound),
        (403, "AccessDeniedException", "not authorized", Class::Denied),
        (403, "UnrecognizedClientException", "bad token", Class::Denied),
        (403, "InvalidSignatureException", "does not match", Class::Denied),
        (403, "ExpiredTokenException", "expired", transient(60)),
    ];
    for (status, code, message, class) in table {
        let error = eks(json_error(status, code, message)).await;
        assert_eq!((error.class(), error.code()), (class, Some(code)), "{code} {message}");
    }
}

#[tokio::test]
async fn words_name_operation_code_and_what_to_do() {
    let said = "You are not authorized. Encoded authorization failure message: 4GIOHlTkIaWHQD0";
    let error = ec2(xml_error(403, "UnauthorizedOperation", said)).await;
    assert_eq!(
        error.to_string(),
        "ec2:DescribeImages: UnauthorizedOperation: You are not authorized. (permission needed: \
         ec2:DescribeImages)"
    );
    let error = eks(json_error(403, "ExpiredTokenException", "The security token is expired")).await;
    assert_eq!(
        error.to_string(),
        "eks:UpdateNodegroupVersion: ExpiredTokenException: The security token is expired (the AWS \
         credentials have expired; they are read again)"
    );
    assert_eq!(error.operation(), "eks:UpdateNodegroupVersion");
}

/// Only a refusal that neither passes by itself nor is a denial may turn out to be final.
#[tokio::test]
async fn a_refusal_is_told_from_an_outage() {
    let volume = "Volume of size 10GB is smaller than snapshot 'snap-1', expect size>= 20GB";
    for (status, code, message, refusal) in [
        (400, "InvalidRequestException", volume, true),
        (400, "ClientException", "", true),
        (400, "NeverSeenBefore", "", true),
        (400, "InvalidRequestException", "Cluster demo is updating", false),
        (400, "InvalidRequestException", MAY_NOT_LAUNCH, false),
        (400, "InvalidParameterException", "no such field", false),
        (429, "ThrottlingException", "Rate exceeded", false),
        (400, "ThrottlingException", "Rate exceeded", false),
        (403, "ExpiredTokenException", "expired", false),
        (500, "ServerException", "", false),
        (503, "NeverSeenBefore", "", false),
    ] {
        let error = eks(json_error(status, code, message)).await;
        assert_eq!(error.may_be_final(), refusal, "{status} {code} {message}");
    }
    assert!(!eks(Reply::Refused).await.may_be_final());
}

#[tokio::test]
async fn a_launch_that_is_not_allowed_names_the_permissions_and_a_bad_signature_its_causes() {
    let error = eks(json_error(400, "InvalidRequestException", MAY_NOT_LAUNCH)).await;
    assert_eq!(
        error.to_string(),
        "eks:UpdateNodegroupVersion: InvalidRequestException: You are not authorized to launch instances with \
         this launch template. (permissions needed: ec2:RunInstances, ec2:CreateTags, iam:PassRole)"
    );
    let error = eks(json_error(403, "InvalidSignatureException", "The signature does not match")).await;
    assert!(error.to_string().contains("secret access key, and the clock"), "{error}");
    let error = ec2(xml_error(400, "RequestExpired", "Request has expired.")).await;
    assert!(error.to_string().contains("the clock of the agent's machine is wrong, or"), "{error}");
}

#[tokio::test]
async fn the_id_of_a_request_is_no_part_of_an_error() {
    let of = |id: &str| format!("Bad volume (Service: Eks, Status Code: 400, Request ID: {id})");
    let first = eks(json_error(400, "InvalidRequestException", &of("a1b2-1"))).await;
    let second = eks(json_error(400, "InvalidRequestException", &of("b9c3-2"))).await;
    assert_eq!(first.to_string(), second.to_string());
}

#[tokio::test]
async fn a_missing_version_can_be_told_from_a_missing_template() {
    let version = ec2(xml_error(400, "InvalidLaunchTemplateId.VersionNotFound", "")).await;
    let template = ec2(xml_error(400, "InvalidLaunchTemplateId.NotFound", "")).await;
    assert!(version.is_missing_version() && !template.is_missing_version());
    assert_eq!(version.class(), template.class());
    let late =
        eks(json_error(400, "InvalidParameterException", "Launch template version 5 does not exist")).await;
    let other = eks(json_error(400, "InvalidParameterException", "no such field")).await;
    assert!(late.is_missing_version() && !other.is_missing_version());
}

#[tokio::test]
async fn a_page_from_a_proxy_is_transient_and_its_patience_is_kept() {
    let html = "<html><body>Bad Gateway</body></html>".to_owned();
    for reply in [Reply::Answer(502, None, html.clone()), Reply::Answer(200, None, html.clone())] {
        let error = ec2(reply).await;
        assert_eq!((error.class(), error.code()), (Class::TRANSIENT, None), "{error}");
        assert!(!error.to_string().is_empty());
    }
    let error = eks(Reply::Answer(503, Some("7"), html.clone())).await;
    assert_eq!(error.class(), transient(7), "{error}");
    let error = eks(Reply::Answer(503, Some("99999999"), html)).await;
    assert_eq!(error.class(), transient(MOST_PATIENCE.as_secs()), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    let error = ec2(Reply::Refused).await;
    assert_eq!(error.class(), Class::TRANSIENT);
    assert_eq!(error.to_string(), "ec2:DescribeImages: cannot reach aws.example: connection refused");
}

#[derive(Debug)]
struct Provider(fn() -> CredentialsError);

impl aws_credential_types::provider::ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::ready(Err((self.0)()))
    }
}

async fn credentials(error: fn() -> CredentialsError) -> AwsError {
    let provider = SharedCredentialsProvider::new(Provider(error));
    let aws = Wire::default().aws_with(provider).await;
    aws.own_images(&region(), Fresh::Now).await.expect_err("no credentials")
}

#[tokio::test]
async fn missing_credentials_say_where_to_put_some() {
    let none = credentials(CredentialsError::not_loaded_no_source).await;
    assert_eq!(none.class(), Class::Denied);
    assert!(none.to_string().contains("no AWS credentials found: set AWS_ACCESS_KEY_ID"), "{none}");
    let wrong = credentials(|| CredentialsError::invalid_configuration("profile loop")).await;
    assert_eq!(wrong.class(), Class::Denied);
    assert!(wrong.to_string().contains("profile loop"), "{wrong}");
    let away = credentials(|| CredentialsError::provider_error("metadata service is unavailable")).await;
    assert_eq!(away.class(), Class::TRANSIENT);
    assert!(away.to_string().contains("metadata service is unavailable"), "{away}");
}
