//! What only the leader can do, asked of it by other members over raft's own links.

use std::time::Duration;

use bytes::Bytes;
use etcdrs_membership::ChangeRequest;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_raft_glue::AskError;
use etcdrs_rafthttp_transport::LeaseError;
use etcdrs_types::{LeaseId, MemberId};
use prost::Message as _;
use tonic::{Code, Status};

use crate::api::{Api, status};

/// Pause before the leader is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Question {
    #[prost(oneof = "Wish", tags = "1, 2, 3")]
    pub(crate) wish: Option<Wish>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Wish {
    /// An encoded [`ChangeRequest`].
    #[prost(bytes = "bytes", tag = "1")]
    Change(Bytes),
    /// A lease to renew.
    #[prost(int64, tag = "2")]
    Renew(i64),
    #[prost(message, tag = "3")]
    TimeToLive(pb::LeaseTimeToLiveRequest),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Reply {
    /// A gRPC code; 0 is success.
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    text: String,
    /// What was asked for.
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
    /// The member that was asked does not lead: ask another one.
    #[prost(bool, tag = "4")]
    elsewhere: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Ttl {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// Why the leader did not do what it was asked, so that another may be asked.
enum Elsewhere {
    NotHere,
    /// The link broke: it may have been done.
    Lost,
    Final(Status),
}

impl Api {
    /// Answers the question of a peer, or of this member itself while it leads.
    async fn answer(&self, wish: Wish) -> Result<Bytes, Elsewhere> {
        match wish {
            Wish::Change(request) => {
                let request = ChangeRequest::decode(&request)
                    .map_err(|error| Elsewhere::Final(Status::internal(error.to_string())))?;
                self.change_here(request.change).await.map_err(|failure| {
                    match failure.status() {
                        None => Elsewhere::NotHere,
                        Some(status) => Elsewhere::Final(status),
                    }
                })?;
                Ok(Bytes::new())
            }
            Wish::Renew(id) => match self.renew_here(LeaseId(id)).await {
                Ok(seconds) => Ok(Ttl { seconds }.encode_to_vec().into()),
                Err(LeaseError::NotFound) => Ok(Ttl { seconds: 0 }.encode_to_vec().into()),
                Err(LeaseError::NotPrimary) => Err(Elsewhere::NotHere),
                Err(LeaseError::Timeout) => Err(Elsewhere::Final(status::timeout())),
                Err(error) => Err(Elsewhere::Final(Status::unknown(error.to_string()))),
            },
            Wish::TimeToLive(request) => match self.time_to_live_here(&request).await {
                Ok(answer) => Ok(answer.encode_to_vec().into()),
                Err(_) => Err(Elsewhere::NotHere),
            },
        }
    }

    /// The answer to a question that came over a link.
    pub(crate) async fn answer_peer(&self, question: Bytes) -> Bytes {
        let wish = Question::decode(question).ok().and_then(|question| question.wish);
        let reply = match wish {
            None => Reply {
                code: Code::Unimplemented as i32,
                text: "etcdserver: the leader does not know this question".into(),
                ..Reply::default()
            },
            Some(wish) => match self.answer(wish).await {
                Ok(body) => Reply { body, ..Reply::default() },
                Err(Elsewhere::NotHere | Elsewhere::Lost) => {
                    Reply { elsewhere: true, ..Reply::default() }
                }
                Err(Elsewhere::Final(status)) => Reply {
                    code: status.code() as i32,
                    text: status.message().to_owned(),
                    ..Reply::default()
                },
            },
        };
        reply.encode_to_vec().into()
    }

    /// Has the leader do something, wherever it is, waiting for one as long as a request may take.
    pub(crate) async fn ask_leader(&self, wish: Wish) -> Result<Bytes, Status> {
        let question: Bytes = Question { wish: Some(wish.clone()) }.encode_to_vec().into();
        let asking = async {
            loop {
                let leader = self.raft.status().leader;
                let answer = match leader {
                    None => Err(Elsewhere::NotHere),
                    Some(leader) if leader == self.raft.member() => self.answer(wish.clone()).await,
                    Some(leader) => self.ask_member(leader, question.clone()).await,
                };
                match answer {
                    Ok(body) => return Ok(body),
                    Err(Elsewhere::Final(status)) => return Err(status),
                    // Whoever asked has to look; all else may be asked again (LE-05).
                    Err(Elsewhere::Lost) if matches!(wish, Wish::Change(_)) => {
                        return Err(status::leader_changed());
                    }
                    Err(Elsewhere::NotHere | Elsewhere::Lost) => {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                }
            }
        };
        match tokio::time::timeout(self.settings.request_timeout, asking).await {
            Ok(result) => result,
            Err(_) if self.raft.status().leader.is_none() => Err(status::no_leader()),
            Err(_) => Err(status::timeout()),
        }
    }

    async fn ask_member(&self, leader: MemberId, question: Bytes) -> Result<Bytes, Elsewhere> {
        let reply = match self.raft.ask_leader(leader, question).await {
            Ok(reply) => reply,
            Err(AskError::Unreachable) => return Err(Elsewhere::NotHere),
            Err(AskError::Lost) => return Err(Elsewhere::Lost),
        };
        let reply = Reply::decode(reply)
            .map_err(|error| Elsewhere::Final(Status::internal(error.to_string())))?;
        match reply {
            Reply { elsewhere: true, .. } => Err(Elsewhere::NotHere),
            Reply { code: 0, body, .. } => Ok(body),
            Reply { code, text, .. } => Err(Elsewhere::Final(Status::new(Code::from(code), text))),
        }
    }

    /// Renews a lease through the leader: its TTL in seconds, 0 if it is gone (LE-04, LE-05).
    pub(crate) async fn renew(&self, id: LeaseId) -> Result<i64, Status> {
        let body = self.ask_leader(Wish::Renew(id.0)).await?;
        Ttl::decode(body).map(|ttl| ttl.seconds).map_err(|e| Status::internal(e.to_string()))
    }
}
