//! Queues, clients that leave, and the end of the server.

use std::io::BufRead;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Server, long, open_stream};

fn signal(server: &Server, name: &str) {
    let id = server.process.id().to_string();
    let sent = Command::new("kill").args([name, &id]).status();
    assert!(sent.unwrap().success());
}

/// The exit code, in time.
fn code(server: &mut Server) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if let Some(status) = server.process.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it goes on");
}

#[test]
fn a_full_queue_refuses_and_a_client_that_hangs_up_makes_room() {
    let server = Server::start(&["--slots", "1", "--max-queue", "1"]);
    let mut busy = open_stream(&server, &long());
    busy.read_to("data: ");
    let info = server.get("/api/info").json();
    assert_eq!(info["active"], 1);
    assert!(info["waiting"].as_u64().unwrap() > 90, "{info}");
    let refused = server.post(&json!({ "prompt": "Once", "max_tokens": 1 }));
    assert_eq!(refused.error().0, 429);
    let seconds = refused.header("retry-after").unwrap().parse::<u64>();
    assert!(seconds.unwrap() >= 1);
    drop(busy);
    server.wait_until_idle();
    server.complete(&json!({ "prompt": "Once", "max_tokens": 1 }));
    // One that waits for a whole answer is missed too.
    let mut body = long();
    body["stream"] = json!(false);
    let waiting = open_stream(&server, &body);
    while server.get("/api/info").json()["active"] == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(waiting);
    server.wait_until_idle();
    let metrics = server.get("/metrics").body;
    let cancelled = metrics.lines().find_map(|line| {
        let count = line.strip_prefix("gpu_tlm_cancelled_sequences_total ")?;
        count.parse::<u64>().ok()
    });
    // Of twice a hundred, a few had ended.
    assert!((150..=200).contains(&cancelled.unwrap()), "{metrics}");
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_stop_finishes_what_it_took_on() {
    let mut server = Server::start(&["--slots", "1"]);
    let mut body = json!({ "prompt": "Once", "max_tokens": 40, "seed": 1, "n": 3 });
    server.complete(&body);
    body["stream"] = json!(true);
    let mut stream = open_stream(&server, &body);
    stream.read_to("data: ");
    signal(&server, "-TERM");
    let mut said = String::new();
    while !said.contains("once more to stop at once") {
        said.clear();
        assert!(server.stderr.read_line(&mut said).unwrap() > 0);
    }
    let rest = stream.rest();
    assert_eq!(
        rest.matches("\"finish_reason\":\"length\"").count(),
        3,
        "{rest}"
    );
    assert!(rest.contains("data: [DONE]"));
    assert_eq!(code(&mut server), Some(0));
    assert!(TcpStream::connect(&server.address).is_err());
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["--slots", "1"]);
    let mut stream = open_stream(&server, &long());
    stream.read_to("data: ");
    signal(&server, "-INT");
    let mut said = String::new();
    while !said.contains("once more to stop at once") {
        said.clear();
        assert!(server.stderr.read_line(&mut said).unwrap() > 0);
    }
    signal(&server, "-INT");
    assert_eq!(code(&mut server), Some(130));
}

#[cfg(unix)]
#[test]
fn an_idle_server_ends_whatever_connections_are_open() {
    let mut server = Server::start(&[]);
    let idle = TcpStream::connect(&server.address).unwrap();
    server.get("/health");
    signal(&server, "-TERM");
    assert_eq!(code(&mut server), Some(0));
    drop(idle);
}
