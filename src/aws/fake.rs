//! A fake of AWS for tests. It replies from a script below the SDK, so that the SDK's parsing is tested together with
//! ours. Retries are off: every scripted reply is seen as it is.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use jiff::Timestamp;

use super::{Aging, Aws, defaults};
use crate::api::Region;

/// A scripted reply.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Status, `retry-after`, body.
    Answer(u16, Option<&'static str>, String),
    /// The connection is refused.
    Refused,
}

/// An error as EC2 and STS write it.
pub(super) fn xml_error(status: u16, code: &str, message: &str) -> Reply {
    let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let body = format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>");
    Reply::Answer(status, None, body)
}

/// An error as EKS writes it.
pub(super) fn json_error(status: u16, code: &str, message: &str) -> Reply {
    Reply::Answer(status, None, format!(r#"{{"__type":"{code}","message":"{message}"}}"#))
}

/// A successful response.
pub(super) fn ok(body: impl Into<String>) -> Reply {
    Reply::Answer(200, None, body.into())
}

/// A response as STS writes it.
pub(super) fn sts(operation: &str, result: &str) -> String {
    format!("<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>")
}

/// The script, and the requests so far.
#[derive(Clone, Default)]
pub(super) struct Wire {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Wire {
    pub(super) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let wire = Self::default();
        wire.replies.lock().unwrap().extend(replies);
        wire
    }

    /// Returns the requests so far: method, address and body.
    pub(super) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    pub(super) async fn aws(&self) -> Aws {
        self.aws_with(credentials()).await
    }

    pub(super) async fn aws_with(&self, credentials: SharedCredentialsProvider) -> Aws {
        Aws::with(self.config(credentials).await, || Timestamp::UNIX_EPOCH)
    }

    /// Clients whose responses age by this clock.
    pub(super) async fn aws_at(&self, now: fn() -> Timestamp) -> Aws {
        Aws::with(self.config(credentials()).await, now)
    }

    /// Clients of a process that only reads.
    pub(super) async fn snapshot(&self) -> Aws {
        let config = self.config(credentials()).await;
        Aws::made(config, None, || Timestamp::UNIX_EPOCH, Aging::Never)
    }

    pub(super) fn http(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    async fn config(&self, credentials: SharedCredentialsProvider) -> SdkConfig {
        defaults()
            .region(aws_config::Region::new(region().to_string()))
            .endpoint_url("https://aws.example")
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .http_client(self.http())
            .load()
            .await
    }
}

fn credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("AKIAEXAMPLE", "secret", None, None, "test"))
}

pub(super) fn region() -> Region {
    Region::parse("us-east-1").unwrap()
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        self.sent.lock().unwrap().push(format!("{} {} {body}", request.method(), request.uri()));
        let reply = self.replies.lock().unwrap().pop_front();
        HttpConnectorFuture::ready(match reply.expect("the script has a reply for this call") {
            Reply::Refused => Err(ConnectorError::io("connection refused".into())),
            Reply::Answer(status, after, body) => {
                let status = StatusCode::try_from(status).expect("a status");
                let mut response = HttpResponse::new(status, SdkBody::from(body));
                if let Some(seconds) = after {
                    response.headers_mut().insert("retry-after", seconds);
                }
                Ok(response)
            }
        })
    }
}
