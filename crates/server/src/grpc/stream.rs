//! A bounded queue of encoded messages between a task and the body it fills.

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;

/// Fills the body of a streaming answer.
pub(crate) trait Messages: Send {
    /// The next framed messages; `None` ends the call with success, an error with its status.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

/// Makes a queue of at most `buffers` buffers.
pub(crate) fn channel(buffers: usize) -> (Sender, Receiver) {
    let (tx, rx) = mpsc::channel(buffers);
    (Sender(tx), Receiver(rx))
}

/// The task's end. Dropping it ends the call with success.
#[derive(Clone)]
pub(crate) struct Sender(mpsc::Sender<Result<Bytes, Status>>);

impl Sender {
    /// Queues whole framed messages. `false`: the client went away.
    pub(crate) async fn send(&self, frames: Bytes) -> bool {
        self.0.send(Ok(frames)).await.is_ok()
    }

    /// Ends the call with an error.
    pub(crate) async fn fail(&self, status: Status) {
        // A client that went away needs no status.
        let _ = self.0.send(Err(status)).await;
    }

    /// Returns when the client has gone away.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The body's end.
pub(crate) struct Receiver(mpsc::Receiver<Result<Bytes, Status>>);

impl Messages for Receiver {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        self.0.poll_recv(cx)
    }
}
