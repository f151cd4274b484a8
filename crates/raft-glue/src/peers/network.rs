//! openraft's calls to a peer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use etcdrs_platform::fp;
use etcdrs_types::MemberId;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use prost::Message as _;

use super::message::{Append, Ballot, SnapshotTaken, Transfer};
use super::{Body, Call, Lane, Peers, Unsent};
use crate::snapshots::{Outgoing, SnapshotData};
use crate::types::{TypeConfig, Vote};

/// Appends of one stream that may wait for their answers.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of entries that may.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

/// Makes clients of peers.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
    pub(crate) outgoing: Outgoing,
    /// How long an append may wait for its answer: a peer that is silent for longer is as good
    /// as gone.
    pub(crate) patience: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        Client { network: self.clone(), target: MemberId(target) }
    }
}

/// A peer.
pub(crate) struct Client {
    network: Network,
    target: MemberId,
}

type RpcError = RPCError<TypeConfig>;
type Appends<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>;

fn unsent(target: MemberId, error: Unsent) -> RpcError {
    let error = AnyError::error(format!("member {target}: {error}"));
    RPCError::Unreachable(Unreachable::new(&error))
}

fn broken(target: MemberId, what: &str) -> RpcError {
    RPCError::Network(NetworkError::new(&AnyError::error(format!("member {target}: {what}"))))
}

impl Client {
    /// Sends a call that is answered quickly or not at all.
    async fn ask(&self, body: Body, option: &RPCOption) -> Result<Body, RpcError> {
        let peers = &self.network.peers;
        let mut call =
            peers.call(self.target, Lane::Control, body).map_err(|e| unsent(self.target, e))?;
        match tokio::time::timeout(option.soft_ttl(), &mut call.answer).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(broken(self.target, "the link broke")),
            Err(_) => Err(broken(self.target, "does not answer")),
        }
    }

    async fn ask_vote(
        &self,
        body: Body,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.ask(body, option).await? {
            Body::Voted(voted) => Ok(voted.response()),
            _ => Err(broken(self.target, "refused to vote")),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let target = self.target;
        let once = futures_util::stream::iter([rpc]);
        let mut answers = self.stream_append(once, option).await?;
        match answers.next().await {
            Some(result) => result.map(AppendEntriesResponse::from),
            None => Err(broken(target, "no answer")),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<Appends<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let pipeline = Pipeline {
            network: self.network.clone(),
            target: self.target,
            input: Some(input),
            lane: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            patience: None,
        };
        Box::pin(std::future::ready(Ok(pipeline.boxed())))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Body::Vote(Ballot::of(&rpc)), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Body::PreVote(Ballot::of(&rpc)), &option).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        match self.ask(Body::Transfer(Transfer::of(&rpc)), &option).await? {
            Body::Transferred(done) if done.refusal.is_empty() => Ok(Ok(())),
            Body::Transferred(done) => Err(broken(self.target, &done.refusal)),
            _ => Err(broken(self.target, "refused to lead")),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let fail = |error: String| {
            let error = AnyError::error(format!("member {}: {error}", self.target));
            StreamingError::Unreachable(Unreachable::new(&error))
        };
        // What the snapshot says of its place is not used: the database is taken as it is now,
        // which is newer.
        let send = async {
            let _sending = self.network.outgoing.begin();
            let (head, chunks) =
                self.network.outgoing.open(&vote).await.map_err(|error| fail(error.to_string()))?;
            let transport = self.network.peers.transport();
            let answer = transport.send_snapshot(self.target, head, chunks).await;
            let answer = answer.map_err(|error| fail(error.to_string()))?;
            fp!("raft-after-send-snap");
            let taken = SnapshotTaken::decode(answer).map_err(|error| fail(error.to_string()))?;
            Ok(SnapshotResponse::new(taken.vote()))
        };
        tokio::select! {
            biased;
            result = send => result,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

/// Appends on their way: many at once, answered in order.
struct Pipeline<S> {
    network: Network,
    target: MemberId,
    input: Option<S>,
    /// One lane for the whole stream: its messages must stay in order.
    lane: Option<Lane>,
    in_flight: VecDeque<(Call, usize)>,
    in_flight_bytes: usize,
    patience: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Pipeline<S> {
    /// Sends what the input has, as far as there is room.
    fn send_more(&mut self, cx: &mut Context<'_>) -> Result<(), RpcError> {
        while self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX {
            let Some(input) = &mut self.input else { break };
            let request = match input.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => request,
                Poll::Ready(None) => {
                    self.input = None;
                    break;
                }
                Poll::Pending => break,
            };
            let bytes = request.entries.iter().map(crate::log_store::data_bytes).sum();
            let lane = *self.lane.get_or_insert(if request.entries.is_empty() {
                Lane::Control
            } else {
                Lane::Append
            });
            fp!("raft-before-leader-send");
            let call = self
                .network
                .peers
                .call(self.target, lane, Body::Append(Append::of(&request)))
                .map_err(|error| unsent(self.target, error))?;
            fp!("raft-after-leader-send");
            self.in_flight.push_back((call, bytes));
            self.in_flight_bytes += bytes;
        }
        Ok(())
    }

    /// Whether the oldest append has waited too long.
    fn out_of_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.network.patience;
        let sleep = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        sleep.poll_unpin(cx).is_ready()
    }
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Stream for Pipeline<S> {
    type Item = Result<StreamAppendResult<TypeConfig>, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Err(error) = this.send_more(cx) {
            this.input = None;
            this.in_flight.clear();
            return Poll::Ready(Some(Err(error)));
        }
        let Some((call, bytes)) = this.in_flight.front_mut() else {
            return if this.input.is_none() { Poll::Ready(None) } else { Poll::Pending };
        };
        let bytes = *bytes;
        let item = match call.answer.poll_unpin(cx) {
            Poll::Ready(Ok(Body::Appended(appended))) => Ok(appended.result()),
            Poll::Ready(Ok(_)) => Err(broken(this.target, "refused the entries")),
            Poll::Ready(Err(_)) => Err(broken(this.target, "the link broke")),
            Poll::Pending if this.out_of_patience(cx) => {
                Err(broken(this.target, "does not answer"))
            }
            Poll::Pending => return Poll::Pending,
        };
        this.in_flight.pop_front();
        this.in_flight_bytes -= bytes;
        this.patience = None;
        if item.is_err() {
            this.input = None;
            this.in_flight.clear();
        }
        Poll::Ready(Some(item))
    }
}
