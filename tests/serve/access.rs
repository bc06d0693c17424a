//! Who is let in, and how much of a request.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use super::client::{Response, send};
use super::{Server, serve};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(server: &Server, headers: &[(&str, &str)]) -> Response {
    let body = json!({ "prompt": "Once", "max_tokens": 1 }).to_string();
    let headers = [&[JSON], headers].concat();
    send(&server.address, "POST", "/v1/completions", &headers, &body)
}

/// A file with a key, in a folder that goes with it.
fn key_file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn with_a_key_everything_but_health_and_the_page_needs_it() {
    let (_folder, path) = key_file("k3y-of-many-letters\n");
    let server = Server::start(&["--api-key-file", &path]);
    for (key, status) in [
        (None, 401),
        (Some("Bearer wrong"), 401),
        (Some("Bearer k3y-of-many-letters-"), 401),
        (Some("Basic k3y-of-many-letters"), 401),
        (Some("Bearer k3y-of-many-letters"), 200),
    ] {
        let headers: Vec<_> = key.map(|key| ("Authorization", key)).into_iter().collect();
        assert_eq!(post(&server, &headers).status, status, "{key:?}");
        for path in ["/v1/models", "/metrics", "/api/info"] {
            let response = send(&server.address, "GET", path, &headers, "");
            assert_eq!(response.status, status, "{key:?} {path}");
        }
        let json = [&[JSON], &headers[..]].concat();
        let body = json!({ "prompt": "Once" }).to_string();
        let response = send(&server.address, "POST", "/api/attention", &json, &body);
        assert_eq!(response.status, status, "{key:?}");
        for path in [
            "/health",
            "/",
            "/page.js",
            "/attention.js",
            "/page.css",
            "/icon.svg",
        ] {
            let response = send(&server.address, "GET", path, &headers, "");
            assert_eq!(response.status, 200, "{key:?} {path}");
        }
    }
    let refused = post(&server, &[]);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
}

#[test]
fn other_hosts_and_pages_from_elsewhere_are_refused() {
    let server = Server::start(&["--allowed-host", "tlm.example"]);
    let (_, port) = server.address.split_once(':').unwrap();
    let local = format!("localhost:{port}");
    let evil = format!("evil.example:{port}");
    let origin = format!("http://{local}");
    for (headers, status) in [
        (vec![("Host", local.as_str())], 200),
        (vec![("Host", "tlm.example")], 200),
        (vec![("Host", evil.as_str())], 403),
        (vec![("Host", "127.0.0.1:1")], 403),
        (
            vec![("Host", local.as_str()), ("Origin", origin.as_str())],
            200,
        ),
        (
            vec![("Host", local.as_str()), ("Origin", "http://evil.example")],
            403,
        ),
        (vec![("Origin", "null")], 403),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
    ] {
        let response = post(&server, &headers);
        assert_eq!(response.status, status, "{headers:?}: {}", response.body);
        if status == 403 {
            response.error();
        }
    }
    for path in ["/", "/health", "/metrics"] {
        let response = send(&server.address, "GET", path, &[("Host", &evil)], "");
        assert_eq!(response.status, 403, "{path}");
    }
    let preflight = [
        ("Origin", "http://evil.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let response = send(
        &server.address,
        "OPTIONS",
        "/v1/completions",
        &preflight,
        "",
    );
    assert_eq!(response.status, 403);
    assert!(
        response
            .headers
            .iter()
            .all(|(name, _)| !name.starts_with("access-control"))
    );
}

#[test]
fn bodies_that_are_too_long_or_no_json_are_refused() {
    let server = Server::start(&[]);
    let ask = |headers: &[(&str, &str)], body: &str| {
        send(&server.address, "POST", "/v1/completions", headers, body)
    };
    let long = [JSON, ("Content-Length", "4194305")];
    assert_eq!(ask(&long, "").error().0, 413);
    let chunk = format!(
        "400000\r\n{}\r\n400\r\n{}\r\n0\r\n\r\n",
        " ".repeat(4 << 20),
        " ".repeat(1024)
    );
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    assert_eq!(ask(&chunked, &chunk).error().0, 413);
    let form = [("Content-Type", "text/plain")];
    assert_eq!(ask(&form, "{}").error().0, 415);
    assert_eq!(ask(&[], "{}").error().0, 415);
}

/// What is said to flags that are refused.
fn refusal(flags: &[&str]) -> String {
    let mut process = serve(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A server that starts says so, and would not end.
    let mut address = String::new();
    let mut stdout = process.stdout.take().unwrap();
    BufReader::new(&mut stdout).read_line(&mut address).unwrap();
    if !address.is_empty() {
        process.kill().unwrap();
    }
    let output = process.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
    assert_eq!(address, "");
    stderr
}

#[test]
fn what_others_could_reach_without_a_key_is_refused() {
    let (_folder, empty) = key_file("\n");
    for (flags, parts) in [
        (
            &["--host", "0.0.0.0"][..],
            &["'0.0.0.0'", "key", "--api-key-file"][..],
        ),
        (&["--host", "::"], &["'::'", "key"]),
        (&["--host", "192.0.2.1"], &["'192.0.2.1'", "key"]),
        (&["--api-key-file", &empty], &["key", "one line"]),
        (
            &["--api-key-file", "/nowhere"],
            &["/nowhere", "cannot be read"],
        ),
        (&["--slots", "0"], &["slots", "at least 1"]),
    ] {
        let stderr = refusal(flags);
        for part in parts {
            assert!(stderr.contains(part), "{flags:?}: {stderr}");
        }
    }
    let server = Server::start(&[]);
    let (_, port) = server.address.split_once(':').unwrap();
    let stderr = refusal(&["--port", port]);
    assert!(
        stderr.contains(port) && stderr.contains("in use"),
        "{stderr}"
    );
}

#[test]
fn with_a_key_it_listens_on_all_addresses() {
    let (_folder, path) = key_file("k3y");
    let server = Server::start(&["--host", "0.0.0.0", "--api-key-file", &path]);
    let (_, port) = server.address.split_once(':').unwrap();
    let local = format!("127.0.0.1:{port}");
    assert_eq!(send(&local, "GET", "/health", &[], "").status, 200);
    assert_eq!(send(&local, "GET", "/v1/models", &[], "").status, 401);
}
