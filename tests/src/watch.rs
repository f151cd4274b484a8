//! A watch stream of a test.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use crate::mvccpb::Event;
use crate::pb;
use crate::pb::watch_client::WatchClient;
use crate::pb::watch_request::RequestUnion;

const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// One bidirectional stream. Answers are read as fast as they come and wait here.
pub struct WatchSession {
    requests: Option<mpsc::UnboundedSender<pb::WatchRequest>>,
    answers: mpsc::UnboundedReceiver<Result<pb::WatchResponse, Status>>,
}

impl WatchSession {
    /// Opens the stream; the server sees it with the first request.
    pub fn open(client: WatchClient<Channel>) -> Self {
        let (requests, mut queue) = mpsc::unbounded_channel();
        let (sender, answers) = mpsc::unbounded_channel();
        let outgoing = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
        tokio::spawn(forward(client, outgoing, sender));
        Self { requests: Some(requests), answers }
    }

    fn send(&self, union: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(union) };
        self.send_raw(request);
    }

    /// Sends any request.
    pub fn send_raw(&self, request: pb::WatchRequest) {
        let requests = self.requests.as_ref().expect("the sending side is open");
        requests.send(request).expect("the stream lives");
    }

    /// Asks for a watcher.
    pub fn request(&self, create: pb::WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create));
    }

    /// Asks for a watcher and waits for its created answer.
    pub async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.request(create);
        let answer = self.next().await;
        assert!(answer.created, "{answer:?}");
        answer
    }

    /// Asks for the end of a watcher.
    pub fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    /// Asks for progress.
    pub fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    /// Closes our side of the stream.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next answer, or the error that ended the stream.
    pub async fn try_next(&mut self) -> Result<pb::WatchResponse, Status> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.answers.recv()).await;
        match answer.expect("an answer on the watch stream in time") {
            Some(answer) => answer,
            None => Err(Status::ok("the stream ended")),
        }
    }

    /// The next answer.
    pub async fn next(&mut self) -> pb::WatchResponse {
        self.try_next().await.unwrap()
    }

    /// The next answer if one comes within `limit`.
    pub async fn next_within(&mut self, limit: Duration) -> Option<pb::WatchResponse> {
        let answer = tokio::time::timeout(limit, self.answers.recv()).await.ok()?;
        Some(answer.expect("the stream lives").unwrap())
    }

    /// Collects answers until `count` events have come.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let answer = self.next().await;
            assert!(!answer.canceled, "{answer:?}");
            events.extend(answer.events);
        }
        assert_eq!(events.len(), count, "more events than expected: {events:?}");
        events
    }
}

async fn forward(
    mut client: WatchClient<Channel>,
    outgoing: impl futures_util::Stream<Item = pb::WatchRequest> + Send + 'static,
    sender: mpsc::UnboundedSender<Result<pb::WatchResponse, Status>>,
) {
    let mut stream = match client.watch(outgoing).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            let _ = sender.send(Err(status));
            return;
        }
    };
    loop {
        let answer = tokio::select! {
            answer = stream.message() => answer,
            () = sender.closed() => return,
        };
        let Some(answer) = answer.transpose() else { return };
        let ended = answer.is_err();
        if sender.send(answer).is_err() || ended {
            return;
        }
    }
}

/// A watcher of one key.
pub fn on(key: impl Into<Bytes>) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), ..Default::default() }
}

/// A watcher of `[key, end)`.
pub fn on_range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

/// A watcher of everything from a revision on.
pub fn on_all(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { start_revision, ..on_range("\0", "\0") }
}
