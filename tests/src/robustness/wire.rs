//! Clients that record every call: one connection to each member, no retries, and a clock that all
//! of them share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::history::{Answer, Failure, Nanos, Operation, Outcome, Request};
use super::member::Public;
use crate::pb;
use crate::pb::kv_client::KvClient;
use crate::pb::lease_client::LeaseClient;
use crate::pb::maintenance_client::MaintenanceClient;

/// After this a call's outcome counts as unknown.
const CALL_LIMIT: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// What all clients of a run share.
#[derive(Clone)]
pub struct Wire {
    start: Instant,
    endpoints: Arc<Vec<String>>,
    members: Arc<Vec<Arc<Public>>>,
}

impl Wire {
    /// The clock starts now.
    pub fn new(endpoints: Vec<String>, members: Vec<Arc<Public>>) -> Self {
        let (endpoints, members) = (Arc::new(endpoints), Arc::new(members));
        Self { start: Instant::now(), endpoints, members }
    }

    /// Time of the run.
    pub fn now(&self) -> Nanos {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run takes less than 500 years")
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.endpoints.len()
    }

    /// A connection that is made with its first call.
    pub fn connect(&self, member: usize) -> Channel {
        Endpoint::from_shared(self.endpoints[member].clone())
            .expect("the address is ours")
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .connect_lazy()
    }

    fn life(&self, member: usize) -> u64 {
        self.members[member].life.load(Ordering::SeqCst)
    }
}

/// One client.
pub struct Client {
    number: u32,
    wire: Wire,
    channels: Vec<Channel>,
    /// Everything it did.
    pub operations: Vec<Operation>,
}

impl Client {
    /// A client that has not called yet.
    pub fn new(number: u32, wire: &Wire) -> Self {
        let channels = (0..wire.members()).map(|member| wire.connect(member)).collect();
        Self { number, wire: wire.clone(), channels, operations: Vec::new() }
    }

    /// Calls a member once, and records it whatever comes of it.
    pub async fn call(&mut self, member: usize, request: Request) -> &Outcome {
        let life = self.wire.life(member);
        let called = self.wire.now();
        let sending = send(self.channels[member].clone(), &request);
        let outcome = match tokio::time::timeout(CALL_LIMIT, sending).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(status)) => classify(&status),
            Err(_) => {
                Outcome::Unknown(failure(Code::DeadlineExceeded, "no answer within the limit"))
            }
        };
        let returned = self.wire.now();
        if matches!(outcome, Outcome::Unknown(_)) {
            // The connection may hang for good; the next call gets a new one.
            self.channels[member] = self.wire.connect(member);
        }
        let same_life = life % 2 == 1 && life == self.wire.life(member);
        let session = if same_life { (member as u64 + 1) << 32 | life } else { 0 };
        let (client, number) = (self.number, self.operations.len());
        self.operations.push(Operation {
            client,
            member,
            session,
            called,
            returned,
            request,
            outcome,
        });
        &self.operations[number].outcome
    }
}

fn failure(code: Code, text: &str) -> Failure {
    Failure { code, text: text.to_owned() }
}

/// Whether an error promises that nothing was done: those that a server gives for what it found in
/// the request or in the state. Everything about time, leaders and connections promises nothing.
fn classify(status: &Status) -> Outcome {
    let failure = failure(status.code(), status.message());
    let of_etcd = failure.text.starts_with("etcdserver: ") && !failure.text.contains("leader");
    let is_final = matches!(
        failure.code,
        Code::InvalidArgument
            | Code::OutOfRange
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::ResourceExhausted
    );
    if of_etcd && is_final { Outcome::Refused(failure) } else { Outcome::Unknown(failure) }
}

async fn send(channel: Channel, request: &Request) -> Result<Answer, Status> {
    let kv = || KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let lease = || LeaseClient::new(channel.clone());
    Ok(match request.clone() {
        Request::Range(r) => Answer::Range(kv().range(r).await?.into_inner()),
        Request::Put(r) => Answer::Put(kv().put(r).await?.into_inner()),
        Request::Delete(r) => Answer::Delete(kv().delete_range(r).await?.into_inner()),
        Request::Txn(r) => Answer::Txn(kv().txn(r).await?.into_inner()),
        Request::Compact(r) => Answer::Compact(kv().compact(r).await?.into_inner()),
        Request::Grant(r) => Answer::Grant(lease().lease_grant(r).await?.into_inner()),
        Request::Revoke(r) => Answer::Revoke(lease().lease_revoke(r).await?.into_inner()),
        Request::KeepAlive(r) => {
            let requests = futures_util::stream::iter([r]);
            let mut answers = lease().lease_keep_alive(requests).await?.into_inner();
            let first: Option<pb::LeaseKeepAliveResponse> = answers.message().await?;
            Answer::KeepAlive(first.ok_or_else(|| Status::unavailable("the stream ended"))?)
        }
        Request::Defragment => {
            MaintenanceClient::new(channel).defragment(pb::DefragmentRequest {}).await?;
            Answer::Defragment
        }
    })
}
