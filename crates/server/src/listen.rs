//! Listeners: HTTP/1 and HTTP/2 on one port, and fewer, larger writes to the socket.

mod collecting;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::grpc::Body;
use crate::listen::collecting::drive;

/// First bytes of a client that speaks HTTP/2 right away.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// A client that says nothing for this long after connecting is let go.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(300);
/// Receive windows of HTTP/2, bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How long connections may finish their calls at a stop.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Settings of the connections of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_concurrent_streams: u32,
    /// Zero turns server pings off.
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
}

/// Answers requests.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    fn grpc(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
    fn http(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// Binds `address`.
///
/// # Errors
///
/// The system's, with the address in the text as Go words it.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
            io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
            _ => format!("bind: {error}"),
        };
        io::Error::new(error.kind(), format!("listen tcp {address}: {what}"))
    })
}

/// Accepts until `stop` turns true, then lets open calls finish for a while.
pub(crate) async fn serve(
    listener: TcpListener,
    service: impl Serve,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let handed_on = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (service, limits, stop) = (service.clone(), limits.clone(), handed_on.clone());
                    connections.spawn(connection(stream, peer, service, limits, stop));
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for one to come back.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections that did not finish");
    }
}

/// Returns when the server begins to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone only when the server is: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Serve,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "could not set TCP_NODELAY");
    }
    let http2 = tokio::time::timeout(FIRST_BYTES_TIMEOUT, speaks_http2(&stream)).await;
    let result = match http2 {
        Ok(Ok(true)) => serve_http2(stream, service, &limits, stop).await,
        Ok(Ok(false)) => serve_http1(stream, service, stop).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => return,
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || seen[..count] != PREFACE[..count] {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // A preface in pieces: peek returns at once while bytes are there, so yield in between.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_http2(
    stream: TcpStream,
    service: impl Serve,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_send_buf_size(1 << 20);
    if !limits.keepalive_interval.is_zero() && !limits.keepalive_timeout.is_zero() {
        builder
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout);
    }
    let answer = hyper::service::service_fn(move |request| {
        let service = service.clone();
        // Boxed: hyper moves the future of a call several times on its way to a task.
        Box::pin(async move { Ok::<_, Infallible>(service.grpc(request).await) })
    });
    let mut driven = drive(stream, |socket| builder.serve_connection(TokioIo::new(socket), answer));
    tokio::select! {
        done = &mut driven => return Ok(done?),
        () = stopped(&mut stop) => driven.connection().graceful_shutdown(),
    }
    Ok(driven.await?)
}

async fn serve_http1(
    stream: TcpStream,
    service: impl Serve,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let answer = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.http(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return Ok(done?),
        () = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
