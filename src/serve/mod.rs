//! An HTTP server with the completions API of OpenAI, and a page to try a model on.
//!
//! One thread answers HTTP; the one that calls [`Server::run`] generates. Between them are a queue of
//! sequences and a channel a request for what becomes of them. `docs/serve.md` has the API.

mod answer;
mod attention;
mod choice;
mod completions;
mod connections;
mod engine;
mod error;
mod fields;
mod guard;
mod metrics;
mod model;
mod page;
mod prompt;
mod queue;
mod routes;

pub use connections::Stop;
pub use error::ServeError;
pub use model::{ServedModel, default_name};

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::decode::Generator;
use guard::Guard;
use queue::Queue;
use routes::Shared;

/// Where a server listens, and who may ask it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Address or name of this machine to listen on.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// What requests have to bring; needed where other machines can reach the host.
    pub key: Option<String>,
    /// Other names by which the server may be asked, for instance a proxy's.
    pub allowed_hosts: Vec<String>,
    /// Requests that may wait for a slot.
    pub max_queue: usize,
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    max_queue: usize,
}

impl Server {
    /// Takes the port; connections wait until [`Server::run`].
    ///
    /// # Errors
    /// When the host is none of this machine, or can be reached from others and there is no key, or the
    /// port is taken.
    pub fn bind(options: &ServerOptions) -> Result<Self, ServeError> {
        let ServerOptions { host, port, .. } = options;
        let failed = |source| ServeError::Listen {
            address: format!("{host}:{port}"),
            source,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = (bare, *port).to_socket_addrs().map_err(failed)?.collect();
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        if options.key.is_none() && !addresses.iter().all(is_local) {
            return Err(ServeError::KeyNeeded { host: host.clone() });
        }
        let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Guard::new(
            bare,
            address,
            options.key.as_deref(),
            &options.allowed_hosts,
        );
        Ok(Self {
            listener,
            address,
            guard,
            max_queue: options.max_queue,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, and then finishes what was taken on.
    ///
    /// # Errors
    /// When the device fails, or the system has no thread for it.
    ///
    /// # Panics
    /// If the thread that answers does: a bug.
    pub fn run(
        self,
        generator: &mut Generator,
        model: ServedModel,
        stop: &Stop,
    ) -> Result<(), Error> {
        let shared = Arc::new(Shared {
            queue: Queue::new(generator.slots(), self.max_queue),
            model,
            metrics: metrics::Metrics::default(),
            guard: self.guard,
        });
        let listener = self.listener;
        let (app, http_stop) = (shared.clone(), stop.clone());
        let http = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || connections::serve(listener, &app, &http_stop))
            .map_err(ServeError::Runtime)?;
        let generated = engine::run(generator, &shared.queue, &shared.metrics);
        shared.queue.abandon();
        stop.generated();
        let answered = http.join().expect("the thread that answers ends by itself");
        generated.and(answered.map_err(Error::from))
    }
}

/// The key in a file: its only line.
///
/// # Errors
/// When it cannot be read, or holds no key that a header could.
pub fn read_key(path: &Path) -> Result<String, ServeError> {
    let wrong = |reason: String| ServeError::Key {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "must hold one line with a key of visible ASCII characters without spaces";
        return Err(wrong(rule.to_owned()));
    }
    Ok(key.to_owned())
}
