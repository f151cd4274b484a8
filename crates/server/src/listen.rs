//! Listeners: HTTP/1 and HTTP/2, with TLS and without, on one port; TCP ports and unix sockets; and
//! fewer, larger writes to the socket.

mod collecting;
mod guard;
mod pending;
mod security;
mod slots;
mod socket;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_rafthttp_transport::Io;
use etcdrs_tls::Accepted;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::collecting::drive;
pub(crate) use self::guard::Guard;
pub use self::security::SecurityError;
pub(crate) use self::security::{Dial, Security, given};
pub(crate) use self::slots::{RESERVED_DESCRIPTORS, slots};
pub(crate) use self::socket::Listener;
use self::socket::{Opening, Stream};
use crate::config::Url;
use crate::grpc::Body;

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
    /// Connections at once; whoever comes then waits in the system's queue.
    pub(crate) connections_max: usize,
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

/// A bound address.
#[derive(Debug)]
pub(crate) struct Port {
    listener: Listener,
    entry: Entry,
    /// What is bound here: more than one URL if it is both with and without TLS.
    pub(crate) urls: Vec<Url>,
}

/// What is spoken first on a port.
#[derive(Clone, Debug)]
enum Entry {
    Plain,
    Tls(Guard),
    /// Clients choose.
    Both(Guard),
}

/// Binds these URLs; those with TLS take connections by `guard`.
///
/// # Errors
///
/// The system's, with the address in the text as Go words it.
pub(crate) async fn bind(urls: &[Url], guard: Option<&Guard>) -> io::Result<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::new();
    for url in urls {
        let secured = guard.filter(|_| url.is_secure()).cloned();
        let same = |port: &&mut Port| port.urls.iter().any(|u| u.address() == url.address());
        if let Some(port) = ports.iter_mut().find(same) {
            port.entry = match (&port.entry, secured) {
                (Entry::Plain, Some(guard)) => Entry::Both(guard),
                (Entry::Tls(guard), None) => Entry::Both(guard.clone()),
                (entry, _) => entry.clone(),
            };
            port.urls.push(url.clone());
            continue;
        }
        let (listener, url) = Listener::bind(url).await?;
        let entry = secured.map_or(Entry::Plain, Entry::Tls);
        ports.push(Port { listener, entry, urls: vec![url] });
    }
    Ok(ports)
}

/// Accepts until `stop` turns true, then lets open calls finish for a while.
pub(crate) async fn serve(
    port: Port,
    service: impl Serve,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let Port { listener, entry, .. } = port;
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    let handed_on = stop.clone();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        tokio::select! {
            (accepted, slot) = accept => match accepted {
                Ok(stream) => {
                    let (service, limits, stop) = (service.clone(), limits.clone(), handed_on.clone());
                    let work = connection(stream, entry.clone(), service, limits, stop);
                    connections.spawn(async move {
                        work.await;
                        drop(slot);
                    });
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
    stream: Stream,
    entry: Entry,
    service: impl Serve,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let remote = stream.remote();
    let begin = async {
        match entry {
            Entry::Tls(guard) => Ok::<_, io::Error>((Opening::Tls, Some(guard))),
            Entry::Plain => Ok((stream.opening().await?, None)),
            Entry::Both(guard) => Ok((stream.opening().await?, Some(guard))),
        }
    };
    let begun = tokio::select! {
        begun = tokio::time::timeout(FIRST_BYTES_TIMEOUT, begin) => begun,
        // Whoever has not said anything yet has nothing to finish.
        () = stopped(&mut stop) => return,
    };
    let (opening, guard) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            tracing::debug!(?remote, %error, "connection ended");
            return;
        }
        Err(_) => return,
    };
    // Plain TCP has code of its own; the rare cases are boxed, so that it does not carry their
    // weight.
    let result = match (opening, guard, stream) {
        (Opening::Tls, Some(guard), stream) => {
            Box::pin(secure(guard, stream.boxed(), remote, service, &limits, stop)).await
        }
        (Opening::Http2, _, Stream::Tcp(stream, _)) => {
            serve_http2(stream, service, &limits, stop).await
        }
        (_, _, Stream::Tcp(stream, _)) => serve_http1(stream, service, stop).await,
        (opening, _, stream) => {
            let is_http2 = opening == Opening::Http2;
            Box::pin(serve_boxed(stream.boxed(), is_http2, service, &limits, stop)).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(?remote, %error, "connection ended");
    }
}

async fn serve_boxed(
    stream: Box<dyn Io>,
    is_http2: bool,
    service: impl Serve,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    if is_http2 {
        serve_http2(stream, service, limits, stop).await
    } else {
        serve_http1(stream, service, stop).await
    }
}

/// Shakes hands and serves whom it lets in.
async fn secure(
    guard: Guard,
    stream: Box<dyn Io>,
    remote: Option<SocketAddr>,
    service: impl Serve,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let accepted = tokio::select! {
        accepted = guard.admit(stream, remote) => accepted,
        () = stopped(&mut stop) => return Ok(()),
    };
    let Some(Accepted { stream, peer, is_http2 }) = accepted else { return Ok(()) };
    let client = SecureClient { common_name: peer.unwrap_or_default().common_name.into() };
    let service = Secured { service, client };
    serve_boxed(Box::new(stream), is_http2, service, limits, stop).await
}

/// Stands in the extensions of every request that came over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecureClient {
    /// The common name of the client's certificate; empty without a certificate or a name.
    pub(crate) common_name: Arc<str>,
}

/// A service over TLS: there an HTTP/2 request is for gRPC only if its content type says so.
#[derive(Clone)]
struct Secured<S> {
    service: S,
    client: SecureClient,
}

impl<S: Serve> Serve for Secured<S> {
    async fn grpc(&self, mut request: Request<Incoming>) -> Response<Body> {
        request.extensions_mut().insert(self.client.clone());
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        if content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return self.service.grpc(request).await;
        }
        self.service.http(request).await
    }

    async fn http(&self, mut request: Request<Incoming>) -> Response<Body> {
        request.extensions_mut().insert(self.client.clone());
        self.service.http(request).await
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_http2(
    stream: impl Io + 'static,
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
    stream: impl Io + 'static,
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

#[cfg(test)]
mod tests;
