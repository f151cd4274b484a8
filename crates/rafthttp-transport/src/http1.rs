//! Requests to peers: one HTTP/1.1 connection, driven by the task that uses it.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, Fuse, select};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::connect::{Connect, Guarded};
use crate::url::PeerUrl;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("dial {url}: {source}")]
    Dial { url: PeerUrl, source: io::Error },
    #[error("dial {url}: timed out")]
    DialTimeout { url: PeerUrl },
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// How a connection is made.
#[derive(Clone, Copy)]
pub(crate) struct Dial<'a> {
    pub(crate) connector: &'a dyn Connect,
    pub(crate) dial_timeout: Duration,
    pub(crate) write_timeout: Duration,
}

/// A connection, and the work of its I/O.
pub(crate) struct Connection {
    url: PeerUrl,
    sender: SendRequest<Body>,
    driver: Fuse<BoxFuture<'static, ()>>,
}

impl Dial<'_> {
    /// The connection that was kept, if it still works, or a new one. Those to unix sockets are
    /// not kept: they cost nothing (T07).
    pub(crate) async fn reuse(
        self,
        kept: Option<Connection>,
        url: &PeerUrl,
    ) -> Result<Connection, HttpError> {
        if let Some(mut connection) = kept
            && connection.url == *url
            && url.socket_path().is_none()
            && connection.is_usable().await
        {
            return Ok(connection);
        }
        self.open(url).await
    }

    pub(crate) async fn open(self, url: &PeerUrl) -> Result<Connection, HttpError> {
        let io = timeout(self.dial_timeout, self.connector.connect(url))
            .await
            .map_err(|_| HttpError::DialTimeout { url: url.clone() })?
            .map_err(|source| HttpError::Dial { url: url.clone(), source })?;
        let io = TokioIo::new(Guarded::new(io, self.write_timeout));
        let (sender, driver) = handshake(io).await?;
        // What goes wrong is reported to whoever waits for an answer or reads a body.
        let driver = driver.map(|_| ()).boxed().fuse();
        Ok(Connection { url: url.clone(), sender, driver })
    }
}

impl Connection {
    /// Whether the connection can take a request; looks at what has happened since the last one.
    async fn is_usable(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        let idle = async {
            // One turn for the driver, which may find that the other side has hung up.
            tokio::task::yield_now().await;
            sender.ready().await.is_ok() && !sender.is_closed()
        };
        drive(driver, idle).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn call(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, HttpError> {
        let Self { sender, driver, .. } = self;
        Ok(drive(driver, sender.send_request(request)).await?)
    }

    /// Does `work`, which reads a body of this connection.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        drive(&mut self.driver, work).await
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Body>,
        answer_bytes_max: usize,
    ) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.call(request).await?.into_parts();
        let body = self.during(read_all(body, answer_bytes_max)).await?;
        Ok(Response::from_parts(head, body))
    }
}

/// Runs a connection and the work that uses it side by side in one task: a wake-up less for each
/// read than with a task for each.
async fn drive<T>(driver: &mut Fuse<BoxFuture<'static, ()>>, work: impl Future<Output = T>) -> T {
    match select(driver, pin!(work)).await {
        // The connection is over. The work finds what was still received, then the end.
        Either::Left(((), work)) => work.await,
        Either::Right((result, _)) => result,
    }
}

async fn read_all(mut body: Incoming, bytes_max: usize) -> Result<Bytes, HttpError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if all.len() + data.len() > bytes_max {
            return Err(HttpError::TooLarge(bytes_max));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}
