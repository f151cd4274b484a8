//! A socket whose small writes are collected until the writer flushes.
//!
//! h2 writes every DATA frame of 256 bytes or more with a system call of its own; on a busy
//! connection that is a call for each answer. Collected, one call carries a round of answers
//! (engine.md §3.5: a linearizable get falls from 10-12 to 6-9 us).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Above this the buffer is written out before more is taken, so that a client that does not read
/// costs no more than this.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// Writes of at least this size go straight to the socket when nothing is pending: copying them
/// would cost more than the call.
const PASS_BYTES_MIN: usize = 32 * 1024;

pub(crate) struct Buffered<S> {
    inner: S,
    pending: Vec<u8>,
    /// Bytes at the front of `pending` that are written already.
    written: usize,
}

impl<S> Buffered<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, pending: Vec::new(), written: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Buffered<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.pending.len() - self.written >= PENDING_BYTES_MAX || data.len() >= PASS_BYTES_MIN {
            ready!(self.poll_drain(cx))?;
        }
        if data.len() >= PASS_BYTES_MIN {
            return Pin::new(&mut self.inner).poll_write(cx, data);
        }
        self.pending.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future);
    }

    #[test]
    fn nothing_leaves_before_a_flush_and_everything_after() {
        block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut socket = Buffered::new(near);
            socket.write_all(b"one").await.expect("write");
            socket.write_all(b"two").await.expect("write");
            assert_eq!(socket.pending, b"onetwo");
            socket.flush().await.expect("flush");
            let mut got = [0; 6];
            far.read_exact(&mut got).await.expect("read");
            assert_eq!(&got, b"onetwo");
        });
    }

    #[test]
    fn a_reader_that_stalls_is_not_buffered_for_without_end() {
        block_on(async {
            let (near, _far) = tokio::io::duplex(16);
            let mut socket = Buffered::new(near);
            let chunk = [7; 1024];
            let mut taken = 0;
            let full = futures_util::future::poll_fn(|cx| {
                while let Poll::Ready(result) = Pin::new(&mut socket).poll_write(cx, &chunk) {
                    taken += result.expect("write");
                }
                Poll::Ready(())
            });
            full.await;
            assert!(taken <= PENDING_BYTES_MAX + chunk.len(), "took {taken}");
        });
    }
}
