//! Connections: taking them, and letting them end.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, Semaphore};

use super::ServeError;
use super::routes::{App, router};

/// Connections at once; others wait.
const MAX_CONNECTIONS: usize = 512;
/// How long the head of a request may take to come.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long clients have to take the last of their answers.
const LAST_TIME: Duration = Duration::from_secs(5);

/// Ends a server from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    stop: Notify,
    generated: Notify,
}

impl Stop {
    /// No request is taken on any more; those that were are finished.
    pub fn stop(&self) {
        self.0.stop.notify_one();
    }

    /// Nothing is generated any more, by whatever cause.
    pub(super) fn generated(&self) {
        self.0.generated.notify_one();
    }
}

/// Answers until `stop`.
pub(super) fn serve(listener: TcpListener, app: &App, stop: &Stop) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(accept(listener, app, stop)),
        Err(error) => Err(error),
    };
    // Whatever the cause, the engine has nothing to wait for.
    app.queue.close();
    served.map_err(ServeError::Runtime)
}

async fn accept(listener: TcpListener, app: &App, stop: &Stop) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let router = router(app);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut ended_early = false;
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.0.stop.notified() => break,
            () = stop.0.generated.notified() => {
                ended_early = true;
                break;
            }
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            // For instance of too many open files: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Each token of a stream goes out when it is there.
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that went away is no failure of ours.
            drop(connection.await);
            drop(place);
        });
    }
    drop(listener);
    app.queue.close();
    let last = async {
        if !ended_early {
            stop.0.generated.notified().await;
        }
        tokio::time::sleep(LAST_TIME).await;
    };
    tokio::select! {
        () = graceful.shutdown() => {}
        () = last => {}
    }
    Ok(())
}
