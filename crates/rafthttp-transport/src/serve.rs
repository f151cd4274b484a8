//! The peer port: accepts connections and answers on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connect::{Guarded, Io, set_options};

/// How long connections may finish what they do at a stop.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Pause after a failed accept: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where peers knock.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Makes an accepted connection a secure one.
pub trait Accept: Send + Sync + 'static {
    /// Shakes hands; the caller limits the time. `remote` is absent on unix sockets.
    fn accept(
        &self,
        stream: Box<dyn Io>,
        remote: Option<SocketAddr>,
    ) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;
}

/// Limits of the connections of a peer port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A secure connection has to be set up in this time.
    pub handshake_timeout: Duration,
    /// A request's head has to come in this time, counted from the end of the one before it.
    pub head_timeout: Duration,
    /// A connection that takes nothing for this long is dead (`--raft-write-timeout`).
    pub write_timeout: Duration,
    /// Most connections at once; others are closed at once.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(5),
            connections_max: 1024,
        }
    }
}

impl Listener {
    async fn accept(&self, limits: &Limits) -> io::Result<(Box<dyn Io>, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // A connection that is gone already fails here, and again when it is used.
                if let Err(error) = set_options(&stream, limits.write_timeout) {
                    tracing::debug!(%remote, %error, "could not set socket options");
                }
                Ok((Box::new(stream), Some(remote)))
            }
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

/// Serves `router` until `stop` turns true or its sender is gone. Stop the transport first: its
/// streams end only then.
pub async fn serve(
    listener: Listener,
    router: Router,
    acceptor: Option<Arc<dyn Accept>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept(&limits) => match accepted {
                Ok((stream, remote)) if connections.len() < limits.connections_max => {
                    let (router, acceptor) = (router.clone(), acceptor.clone());
                    let work = connection(stream, remote, router, acceptor, limits, stop.clone());
                    connections.spawn(work);
                }
                Ok((_, remote)) => {
                    tracing::warn!(?remote, "closed a peer's connection: there are too many");
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a peer's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::debug!(open = connections.len(), "cutting connections that did not finish");
    }
    connections.shutdown().await;
}

/// Returns when the port begins to close. The sender is gone only when its owner is: a stop too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: Box<dyn Io>,
    remote: Option<SocketAddr>,
    router: Router,
    acceptor: Option<Arc<dyn Accept>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let secured = async {
        let Some(acceptor) = acceptor else { return Ok(stream) };
        let handshake = timeout(limits.handshake_timeout, acceptor.accept(stream, remote));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "handshake timed out");
        handshake.await.map_err(late)?
    };
    match secured.await {
        Ok(stream) => answer(stream, remote, router, limits, stop).await,
        Err(error) => tracing::warn!(?remote, %error, "rejected connection on peer endpoint"),
    }
}

/// Answers requests on one connection until it ends.
async fn answer(
    stream: Box<dyn Io>,
    remote: Option<SocketAddr>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let stream = TokioIo::new(Guarded::new(stream, limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(?remote, %error, "a peer's connection ended");
    }
}
