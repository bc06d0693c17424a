//! Who may ask: the address that a request names, the page that it comes from, and its key.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::routes::App;

/// What is checked before anything else of a request is looked at.
#[derive(Debug)]
pub(super) struct Guard {
    /// SHA-256 of the key, where there is one.
    key: Option<[u8; 32]>,
    port: u16,
    /// Names by which the server is asked at its own port.
    names: Vec<String>,
    /// Names that stand before another port, for instance a proxy's.
    foreign_names: Vec<String>,
    /// Whether it listens on all addresses, so that any of them may be asked for.
    takes_addresses: bool,
}

impl Guard {
    /// For a server on `address`, which was given as `host`.
    pub(super) fn new(
        host: &str,
        address: SocketAddr,
        key: Option<&str>,
        foreign_names: &[String],
    ) -> Self {
        let own = [
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            host.to_lowercase(),
            address.ip().to_string(),
        ];
        Self {
            key: key.map(digest),
            port: address.port(),
            names: own.to_vec(),
            foreign_names: foreign_names
                .iter()
                .map(|name| name.to_lowercase())
                .collect(),
            takes_addresses: address.ip().is_unspecified(),
        }
    }

    /// A page elsewhere can have its own name lead to this machine; it cannot have its browser send
    /// another name than that.
    fn check_host(&self, request: &Request) -> Result<String, ApiError> {
        let refuse = |host: &str| {
            let message = format!("the server does not answer to the host '{host}'");
            Err(ApiError::new(StatusCode::FORBIDDEN, message).with_code("forbidden_host"))
        };
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return refuse("");
        };
        let Ok(host) = host.to_str() else {
            return refuse("");
        };
        let Some((name, port)) = split_host(host) else {
            return refuse(host);
        };
        let is_own_port = port.unwrap_or(80) == self.port;
        // A name that is an address cannot be led elsewhere.
        let is_own =
            self.names.contains(&name) || self.takes_addresses && name.parse::<IpAddr>().is_ok();
        if is_own && is_own_port || self.foreign_names.contains(&name) {
            Ok(host.to_owned())
        } else {
            refuse(host)
        }
    }

    fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let refuse = |from: &str| {
            let message = format!("requests of pages from '{from}' are not answered");
            Err(ApiError::new(StatusCode::FORBIDDEN, message).with_code("forbidden_origin"))
        };
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                return refuse(origin);
            }
        }
        match headers.get(HeaderName::from_static("sec-fetch-site")) {
            Some(site) if site == "cross-site" => refuse("another site"),
            _ => Ok(()),
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let message = match given {
            None => "a key is needed: Authorization: Bearer KEY",
            Some(given) if is_same(&digest(given), key) => return Ok(()),
            Some(_) => "the key is wrong",
        };
        Err(ApiError::new(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key"))
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let host = self.check_host(request)?;
        if request.method() != Method::GET {
            Self::check_origin(&host, request.headers())?;
        }
        let path = request.uri().path();
        // The page is the same for all, and asks for the key itself.
        if path == "/health" || super::page::file(path).is_some() {
            return Ok(());
        }
        self.check_key(request.headers())
    }
}

/// The name in lower case without brackets, and the port.
fn split_host(host: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            match port.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if port.is_empty() => (name, None),
                None => return None,
            }
        }
        None => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map(str::parse).transpose().ok()?;
    Some((name.to_lowercase(), port))
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Takes as long whatever differs.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Lets a request through or refuses it, counts it, and says of every answer how it may be used.
pub(super) async fn watch(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = super::routes::known(request.uri().path());
    let method = request.method().clone();
    let mut response = match app.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    tracing::debug!("{method} {path}: {}", response.status());
    app.metrics.request(path, response.status().as_u16());
    for (name, value) in super::page::HEADERS {
        let value = axum::http::HeaderValue::from_static(value);
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(host: &str, address: &str) -> Guard {
        let names = ["tlm.example".to_owned()];
        Guard::new(host, address.parse().unwrap(), Some("the key"), &names)
    }

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method("POST").uri("/v1/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn only_names_that_cannot_be_led_elsewhere_are_answered_to() {
        for (host, address, asked, taken) in [
            ("127.0.0.1", "127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1", "127.0.0.1:8080", "localhost:8080", true),
            ("127.0.0.1", "127.0.0.1:8080", "LOCALHOST:8080", true),
            ("127.0.0.1", "127.0.0.1:8080", "[::1]:8080", true),
            ("127.0.0.1", "127.0.0.1:8080", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1:80", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1", "127.0.0.1:8080", "evil.example:8080", false),
            ("127.0.0.1", "127.0.0.1:8080", "192.168.1.5:8080", false),
            (
                "127.0.0.1",
                "127.0.0.1:8080",
                "localhost.evil.example:8080",
                false,
            ),
            ("127.0.0.1", "127.0.0.1:8080", "127.0.0.1:8080@evil", false),
            ("127.0.0.1", "127.0.0.1:8080", "", false),
            ("127.0.0.1", "127.0.0.1:8080", "tlm.example", true),
            ("127.0.0.1", "127.0.0.1:8080", "tlm.example:443", true),
            ("box.lan", "192.168.1.5:8080", "box.lan:8080", true),
            ("box.lan", "192.168.1.5:8080", "192.168.1.5:8080", true),
            ("0.0.0.0", "0.0.0.0:8080", "192.168.1.5:8080", true),
            ("::", "[::]:8080", "[fd00::5]:8080", true),
            ("0.0.0.0", "0.0.0.0:8080", "evil.example:8080", false),
        ] {
            let checked = guard(host, address).check_host(&request(&[("host", asked)]));
            assert_eq!(checked.is_ok(), taken, "{asked} at {address}");
        }
        let guard = guard("127.0.0.1", "127.0.0.1:8080");
        assert!(guard.check_host(&request(&[])).is_err());
        let twice = [("host", "localhost:8080"), ("host", "evil.example")];
        assert!(guard.check_host(&request(&twice)).is_err());
    }

    #[test]
    fn pages_from_elsewhere_are_refused() {
        for (headers, taken) in [
            (&[][..], true),
            (&[("origin", "http://localhost:8080")], true),
            (&[("origin", "https://localhost:8080")], true),
            (&[("origin", "http://localhost:8081")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site")], false),
        ] {
            let checked = Guard::check_origin("localhost:8080", request(headers).headers());
            assert_eq!(checked.is_ok(), taken, "{headers:?}");
        }
    }

    #[test]
    fn the_key_has_to_be_the_whole_key() {
        let guard = guard("127.0.0.1", "127.0.0.1:8080");
        for (given, taken) in [
            ("Bearer the key", true),
            ("bearer the key", true),
            ("Bearer the ke", false),
            ("Bearer the key2", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Basic the key", false),
            ("the key", false),
        ] {
            let request = request(&[("authorization", given)]);
            assert_eq!(guard.check_key(request.headers()).is_ok(), taken, "{given}");
        }
        assert!(guard.check_key(request(&[]).headers()).is_err());
    }
}
