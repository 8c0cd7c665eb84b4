//! Sends one request to the API server and returns the response as text.
//!
//! kube would decode the response itself, and logs what it cannot decode. The response may contain a Secret, which
//! must never be logged.

use http::header::{CONTENT_TYPE, HeaderValue};
use kube::Client;

use super::REQUEST_LIMIT;
use super::error::Refusal;
use crate::api::Class;

/// A request, or why it could not be built.
pub type BuiltRequest = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Sends a request and returns the body of the response.
pub async fn send(client: &Client, request: BuiltRequest) -> Result<String, Refusal> {
    let mut request =
        request.map_err(|error| Refusal { class: Class::Invalid, message: error.to_string(), code: None })?;
    request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    match tokio::time::timeout(REQUEST_LIMIT, client.request_text(request)).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(Refusal::without_response(format!("no response within {} s", REQUEST_LIMIT.as_secs()))),
    }
}
