//! A socket whose writes are collected until its connection's task has run its turn.
//!
//! h2 writes and flushes each larger DATA frame by itself, and a list of 500 keys is ten of them: the
//! system calls cost more than all the rest that the server does for the answer. Here writes and
//! flushes only collect, and [`Driven`] writes once after each turn of the connection's task, so
//! that one call carries a round of answers (engine.md §3.5).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above this the buffer is written out before more is taken, so that a client that does not read
/// costs no more than this.
const PENDING_BYTES_MAX: usize = 192 * 1024;
/// A buffer that grew above this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The connection's end of the socket.
pub(crate) struct Collecting<S>(Arc<Mutex<Socket<S>>>);

/// A connection whose collected bytes leave after each of its turns.
pub(crate) struct Driven<C, S> {
    connection: Pin<Box<C>>,
    socket: Arc<Mutex<Socket<S>>>,
}

struct Socket<S> {
    inner: S,
    pending: Vec<u8>,
    /// Bytes at the front of `pending` that are written already.
    written: usize,
    /// Whether the socket was not flushed since the last write: what encrypts may hold back bytes
    /// that it has taken.
    unflushed: bool,
    /// Why the socket takes nothing any more.
    failed: Option<io::ErrorKind>,
}

/// Makes a connection of `inner` by `connect`.
pub(crate) fn drive<C, S>(inner: S, connect: impl FnOnce(Collecting<S>) -> C) -> Driven<C, S> {
    let socket = Socket { inner, pending: Vec::new(), written: 0, unflushed: false, failed: None };
    let socket = Arc::new(Mutex::new(socket));
    let connection = Box::pin(connect(Collecting(Arc::clone(&socket))));
    Driven { connection, socket }
}

impl<C, S> Driven<C, S> {
    pub(crate) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C: Future, S: AsyncWrite + Unpin> Future for Driven<C, S> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let result = self.connection.as_mut().poll(cx);
        // Without room in the socket the task is woken when there is some. An error is met by the
        // connection's next write. What a connection leaves at its end gets this one attempt: one
        // that ends in order has shut the socket down before, and that waits.
        if let Poll::Ready(Err(_)) = self.socket.lock().poll_drain(cx) {
            cx.waker().wake_by_ref();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            let result = match ready!(Pin::new(&mut self.inner).poll_write(cx, rest)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            self.written += self.noted(result)?;
            self.unflushed = true;
        }
        if self.unflushed {
            self.forget_pending();
            let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
            self.noted(result)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// After an error nothing more is written.
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            self.failed = Some(error.kind());
            self.unflushed = false;
            self.forget_pending();
        })
    }

    fn forget_pending(&mut self) {
        self.written = 0;
        if self.pending.capacity() > KEPT_BYTES_MAX {
            self.pending = Vec::new();
        } else {
            self.pending.clear();
        }
    }

    fn alive(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Collecting<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Collecting<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock();
        socket.alive()?;
        if socket.pending.len() - socket.written >= PENDING_BYTES_MAX {
            ready!(socket.poll_drain(cx))?;
        }
        socket.pending.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().alive())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.lock();
        socket.alive()?;
        ready!(socket.poll_drain(cx))?;
        Pin::new(&mut socket.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future);
    }

    /// One turn of a task.
    async fn turn<C: Future>(driven: &mut Driven<C, DuplexStream>) -> Poll<C::Output> {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *driven).poll(cx))).await
    }

    #[test]
    fn everything_leaves_at_the_end_of_the_turn_in_one_write() {
        block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut driven = drive(near, |mut socket| async move {
                for part in [&b"one"[..], b"two"] {
                    socket.write_all(part).await.expect("write");
                    socket.flush().await.expect("flush");
                    assert_eq!(socket.0.lock().written, 0);
                }
                assert_eq!(socket.0.lock().pending, b"onetwo");
                pending::<()>().await;
            });
            assert!(turn(&mut driven).await.is_pending());
            let mut got = [0; 6];
            far.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"onetwo");
        });
    }

    #[test]
    fn a_reader_that_stalls_is_not_buffered_for_without_end() {
        block_on(async {
            let (near, mut far) = tokio::io::duplex(16);
            let mut driven = drive(near, |mut socket| async move {
                let chunk = [7; 1024];
                loop {
                    socket.write_all(&chunk).await.expect("write");
                }
            });
            for _ in 0..10 {
                assert!(turn(&mut driven).await.is_pending());
                let held = driven.socket.lock().pending.len();
                assert!(held <= PENDING_BYTES_MAX + 1024, "holds {held}");
                let mut some = [0; 16];
                far.read_exact(&mut some).await.expect("read");
                assert_eq!(some, [7; 16]);
            }
        });
    }

    #[test]
    fn a_shutdown_waits_until_the_last_byte_has_left() {
        block_on(async {
            let (near, mut far) = tokio::io::duplex(16);
            let driven = drive(near, |mut socket| async move {
                socket.write_all(&[7; 5000]).await.expect("write");
                socket.shutdown().await.expect("shutdown");
            });
            let mut got = Vec::new();
            let (_, read) = tokio::join!(driven, far.read_to_end(&mut got));
            read.expect("read");
            assert_eq!(got, [7; 5000]);
        });
    }

    /// Takes everything and sends it when it is flushed, as a TLS connection may.
    struct HoldsBack(Vec<u8>, DuplexStream);

    impl AsyncRead for HoldsBack {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.1).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for HoldsBack {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.extend_from_slice(data);
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self(held, inner) = &mut *self;
            while !held.is_empty() {
                let count = ready!(Pin::new(&mut *inner).poll_write(cx, held))?;
                held.drain(..count);
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.1).poll_shutdown(cx)
        }
    }

    #[test]
    fn a_socket_that_holds_bytes_back_is_flushed_until_they_have_left() {
        block_on(async {
            let (near, mut far) = tokio::io::duplex(16);
            let mut driven = drive(HoldsBack(Vec::new(), near), |mut socket| async move {
                socket.write_all(&[7; 100]).await.expect("write");
                pending::<()>().await;
            });
            let mut got = [0; 100];
            tokio::select! {
                () = &mut driven => {}
                read = far.read_exact(&mut got) => assert_eq!(read.expect("read"), 100),
            }
            assert_eq!(got, [7; 100]);
        });
    }

    #[test]
    fn a_peer_that_is_gone_is_told_to_the_next_write() {
        block_on(async {
            let (near, far) = tokio::io::duplex(16);
            drop(far);
            let driven = drive(near, |mut socket| async move {
                socket.write_all(b"lost").await.expect("collected");
                tokio::task::yield_now().await;
                socket.write_all(b"refused").await.map_err(|error| error.kind())
            });
            assert_eq!(driven.await, Err(io::ErrorKind::BrokenPipe));
        });
    }
}
