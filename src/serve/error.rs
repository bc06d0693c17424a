//! What can go wrong with the server, and what can be wrong with a request.

use std::path::PathBuf;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error of the server as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Other machines could reach it, and it has no key.
    #[error(
        "'{host}' can be reached from other machines, which need a key then; give a file that holds one, \
         or stay on 127.0.0.1"
    )]
    KeyNeeded {
        /// The host to listen on.
        host: String,
    },
    /// A file without a usable key.
    #[error("'{}' {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A host that is no address of this machine, or a port that is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A number that must be larger.
    #[error("{name} is 0, but it must be at least 1")]
    Zero {
        /// What the number is of.
        name: &'static str,
    },
    /// The system has no thread or no socket for it.
    #[error("the server cannot run: {0}")]
    Runtime(std::io::Error),
}

impl ServeError {
    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Runtime(_))
    }
}

/// An answer that is an error, with a body as OpenAI's API gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// The field that is to blame.
    pub(super) param: Option<String>,
    pub(super) code: Option<&'static str>,
    pub(super) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: None,
            retry_after_s: None,
        }
    }

    /// A request with a wrong field.
    pub(super) fn field(name: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(name.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, message)
        }
    }

    /// A request with a field that nothing is known of.
    pub(super) fn unknown_field(name: &str) -> Self {
        Self::field(name, format!("there is no field '{name}' here")).with_code("unknown_field")
    }

    /// A fault of ours.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The body.
    pub(super) fn json(&self) -> serde_json::Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, JsonBody(self.json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A body of JSON.
pub(super) struct JsonBody(pub(super) serde_json::Value);

impl IntoResponse for JsonBody {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (kind, self.0.to_string()).into_response()
    }
}
