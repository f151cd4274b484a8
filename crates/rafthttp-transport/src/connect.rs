//! Connections: how they are opened, and how a stalled one is noticed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use crate::proxy::Proxies;
use crate::url::PeerUrl;

/// Time between two TCP keep-alives, as in etcd.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections to peers. TLS comes from outside: a connector for it dials with
/// [`PlainTcp::dial`] and wraps the result when [`PeerUrl::is_tls`].
pub trait Connect: Send + Sync + 'static {
    /// Connects to `url`, encrypted if its scheme says so. The caller limits the time.
    fn connect<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Box<dyn Io>>>;
}

/// Opens TCP and unix connections without TLS; refuses `https` and `unixs`.
#[derive(Clone, Debug)]
pub struct PlainTcp {
    /// A TCP connection dies when the other side acknowledges nothing for this long.
    pub unacknowledged_max: Duration,
    /// Proxies on the way.
    pub proxies: Proxies,
}

impl Default for PlainTcp {
    fn default() -> Self {
        Self { unacknowledged_max: Duration::from_secs(5), proxies: Proxies::default() }
    }
}

impl PlainTcp {
    /// Connects to host and port, or to the socket, whatever the scheme says about TLS.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub async fn dial(&self, url: &PeerUrl) -> io::Result<Box<dyn Io>> {
        if let Some(path) = url.socket_path() {
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        let stream = self.proxies.connect(url).await?;
        set_options(&stream, self.unacknowledged_max)?;
        Ok(Box::new(stream))
    }
}

impl Connect for PlainTcp {
    fn connect<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            if url.is_tls() {
                let text = format!("{url}: no TLS is configured");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            self.dial(url).await
        })
    }
}

/// Small writes leave at once; a host that vanished is noticed although we only ever write.
pub(crate) fn set_options(stream: &TcpStream, unacknowledged_max: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    let millis = u32::try_from(unacknowledged_max.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

/// A connection whose writes fail when the other side takes nothing for too long.
///
/// Reads have no limit here: whoever reads knows whether silence is an idle connection or a fault.
pub(crate) struct Guarded<T> {
    inner: T,
    write_timeout: Duration,
    stall: Stall,
}

/// The timer of a stalled write. Kept between stalls, because a fast sender stalls often.
enum Stall {
    Never,
    Waiting(Pin<Box<Sleep>>),
    Over(Pin<Box<Sleep>>),
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, stall: Stall::Never }
    }

    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            if let Stall::Waiting(timer) = std::mem::replace(&mut self.stall, Stall::Never) {
                self.stall = Stall::Over(timer);
            }
            return result;
        }
        let mut timer = match std::mem::replace(&mut self.stall, Stall::Never) {
            Stall::Waiting(timer) => timer,
            Stall::Over(mut timer) => {
                timer.as_mut().reset(Instant::now() + self.write_timeout);
                timer
            }
            Stall::Never => Box::pin(tokio::time::sleep(self.write_timeout)),
        };
        let fired = timer.as_mut().poll(cx);
        self.stall = Stall::Waiting(timer);
        ready!(fired);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "write timed out")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    use super::*;

    /// T04, T06: what the operating system is asked for, on both sides of a connection.
    #[tokio::test]
    async fn t_06_keep_alives_and_the_end_of_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        set_options(&stream, PlainTcp::default().unacknowledged_max).unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(30));
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 5000);
    }
}
