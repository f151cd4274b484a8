//! The small questions members ask each other, and their answers on the wire (operations.md §3.6).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::{Bytes, BytesMut};
use etcdrs_types::MemberId;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::headers::{CLUSTER_ID, CLUSTER_ID_MISMATCH};
use crate::reply;
use crate::transport::Transport;

/// Largest body of a question, bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A question's body has to arrive in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const PROMOTE_PREFIX: &str = "/members/promote/";

/// Answers questions of other members.
pub trait PeerApi: Send + Sync + 'static {
    /// The members this one knows, by id.
    fn members(&self) -> Vec<PeerMember>;

    /// Makes a learner a voter; this member has to be the leader. `token` is the caller's.
    fn promote(
        &self,
        id: MemberId,
        token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PeerMember>, PromoteError>>;

    /// Hash of the keys and values at `revision`, or at the newest if it is 0.
    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashError>>;

    /// Versions of server, cluster and storage.
    fn version(&self) -> Versions;

    /// Renews a lease: `LeaseKeepAliveRequest` in, `LeaseKeepAliveResponse` out.
    fn lease_renew(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>>;

    /// Time to live of a lease: `LeaseInternalRequest` in, `LeaseInternalResponse` out.
    fn lease_internal(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>>;

    /// Whether a downgrade is under way, seen after a read barrier; the error is its text.
    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>>;
}

/// A member as peers tell each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMember {
    /// Its id.
    pub id: u64,
    /// Where peers reach it.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    /// It does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_default")]
    pub is_learner: bool,
    /// Empty until it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// Versions as `/version` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The server's.
    #[serde(rename = "etcdserver")]
    pub server: String,
    /// The cluster's, or `not_decided`.
    #[serde(rename = "etcdcluster")]
    pub cluster: String,
    /// The storage's, or `unknown`; older servers don't tell.
    #[serde(default)]
    pub storage: String,
}

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// The member's revision.
    pub revision: i64,
    /// The hash.
    pub hash: u32,
    /// The member's compacted revision.
    pub compact_revision: i64,
    /// The revision that was hashed up to.
    pub hash_revision: i64,
}

/// [`HashKv`] as etcd spells it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HashKvJson {
    header: HashKvHeader,
    #[serde(skip_serializing_if = "is_default")]
    hash: u32,
    #[serde(skip_serializing_if = "is_default")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    hash_revision: i64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct HashKvHeader {
    #[serde(skip_serializing_if = "is_default")]
    revision: i64,
}

impl From<HashKv> for HashKvJson {
    fn from(HashKv { revision, hash, compact_revision, hash_revision }: HashKv) -> Self {
        Self { header: HashKvHeader { revision }, hash, compact_revision, hash_revision }
    }
}

impl From<HashKvJson> for HashKv {
    fn from(HashKvJson { header, hash, compact_revision, hash_revision }: HashKvJson) -> Self {
        Self { revision: header.revision, hash, compact_revision, hash_revision }
    }
}

/// The question behind a hash.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HashKvRequest {
    pub(crate) revision: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why a learner was not promoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromoteError {
    /// There is no such member (404).
    #[error("membership: ID not found")]
    NotFound,
    /// It votes already (412).
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// It lags too far behind (412).
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    NotReady,
    /// It took too long (408), in the server's words.
    #[error("{0}")]
    Timeout(String),
    /// The cluster is not healthy enough (503).
    #[error("Service Unavailable")]
    Unavailable,
    /// Anything else (500).
    #[error("Internal Server Error")]
    Internal,
}

/// Why there is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The revision was compacted.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is still to come.
    #[error("mvcc: required revision is a future revision")]
    Future,
    /// The question came from another cluster.
    #[error("cluster ID mismatch")]
    OtherCluster,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why a lease could not be renewed or looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease (404).
    #[error("lease not found")]
    NotFound,
    /// This member is not the leader (400 when renewing, else 500).
    #[error("not a primary lessor")]
    NotPrimary,
    /// This member lags behind what it must have applied (408).
    #[error("waiting for node to catch up its applied index has timed out")]
    Timeout,
    /// The question is no message of the expected type (400).
    #[error("error unmarshalling request")]
    Malformed,
    /// Anything else (500).
    #[error("{0}")]
    Other(String),
}

#[derive(Clone)]
struct Asked {
    transport: Transport,
    api: Arc<dyn PeerApi>,
}

pub(crate) fn router(transport: Transport, api: Arc<dyn PeerApi>) -> Router {
    Router::new()
        .route("/members", any(members))
        .route("/members/promote/{*id}", any(promote))
        .route("/members/hashkv", any(hash_kv))
        .route("/version", any(version))
        .route("/leases", any(lease_renew))
        .route("/leases/internal", any(lease_internal))
        .route("/downgrade/enabled", any(downgrade_enabled))
        .with_state(Asked { transport, api })
}

impl Asked {
    fn marked(&self, mut response: Response) -> Response {
        self.transport.context().identity.mark_answer(response.headers_mut());
        response
    }
}

async fn members(State(asked): State<Asked>, request: Request) -> Response {
    if request.method() != Method::GET {
        return reply::wrong_method(Some(Method::GET));
    }
    asked.marked(reply::json(StatusCode::OK, &sorted(asked.api.members()), "\n"))
}

fn sorted(mut members: Vec<PeerMember>) -> Vec<PeerMember> {
    members.sort_unstable_by_key(|member| member.id);
    members
}

async fn promote(State(asked): State<Asked>, request: Request) -> Response {
    if request.method() != Method::POST {
        return reply::wrong_method(Some(Method::POST));
    }
    let id = request.uri().path().strip_prefix(PROMOTE_PREFIX).unwrap_or_default();
    let digits = id.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = digits.then(|| id.parse().ok()).flatten() else {
        let text = format!("member {id} not found in cluster");
        return asked.marked(reply::text(StatusCode::NOT_FOUND, &text));
    };
    let token = reply::header_text(request.headers(), header::AUTHORIZATION.as_str());
    let answer = match asked.api.promote(MemberId(number), token.map(str::to_owned)).await {
        Ok(members) => reply::json(StatusCode::OK, &sorted(members), "\n"),
        Err(error) => {
            let text = error.to_string();
            match error {
                PromoteError::NotFound => reply::text(StatusCode::NOT_FOUND, &text),
                PromoteError::NotLearner | PromoteError::NotReady => {
                    reply::text(StatusCode::PRECONDITION_FAILED, &text)
                }
                PromoteError::Timeout(_) => reply::text(StatusCode::REQUEST_TIMEOUT, &text),
                PromoteError::Unavailable => reply::message(StatusCode::SERVICE_UNAVAILABLE, &text),
                PromoteError::Internal => reply::message(StatusCode::INTERNAL_SERVER_ERROR, &text),
            }
        }
    };
    asked.marked(answer)
}

async fn hash_kv(State(asked): State<Asked>, request: Request) -> Response {
    if request.method() != Method::GET {
        return reply::wrong_method(Some(Method::GET));
    }
    let ours = asked.transport.context().config.cluster.to_string();
    let theirs = reply::header_text(request.headers(), CLUSTER_ID);
    // A person with curl does not know the cluster's id, and may ask.
    if theirs.is_some_and(|theirs| !theirs.is_empty() && theirs != ours) {
        return reply::text(StatusCode::PRECONDITION_FAILED, CLUSTER_ID_MISMATCH);
    }
    let bad = |text| reply::text(StatusCode::BAD_REQUEST, text);
    let Ok(body) = read_body(request.into_body()).await else { return bad("error reading body") };
    let Ok(question) = serde_json::from_slice::<HashKvRequest>(&body) else {
        return bad("error unmarshalling request");
    };
    match asked.api.hash_kv(question.revision).await {
        Ok(hash) => asked.marked(reply::json(StatusCode::OK, &HashKvJson::from(hash), "")),
        Err(error) => bad(&error.to_string()),
    }
}

async fn version(State(asked): State<Asked>, request: Request) -> Response {
    if request.method() != Method::GET {
        return reply::wrong_method(Some(Method::GET));
    }
    reply::json(StatusCode::OK, &asked.api.version(), "")
}

async fn downgrade_enabled(State(asked): State<Asked>, request: Request) -> Response {
    if request.method() != Method::GET {
        return reply::wrong_method(Some(Method::GET));
    }
    asked.marked(match asked.api.downgrade_enabled().await {
        Ok(enabled) => reply::with_type(StatusCode::OK, "text/plain", enabled.to_string().into()),
        Err(text) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, &text),
    })
}

async fn lease_renew(State(asked): State<Asked>, request: Request) -> Response {
    let body = match lease_question(request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    lease_answer(asked.api.lease_renew(body).await, StatusCode::BAD_REQUEST)
}

async fn lease_internal(State(asked): State<Asked>, request: Request) -> Response {
    let body = match lease_question(request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    lease_answer(asked.api.lease_internal(body).await, StatusCode::INTERNAL_SERVER_ERROR)
}

async fn lease_question(request: Request) -> Result<Bytes, Response> {
    if request.method() != Method::POST {
        return Err(reply::wrong_method(None));
    }
    read_body(request.into_body()).await.map_err(|error| match error {
        BodyError::TooLarge => reply::text(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"),
        BodyError::Broken => reply::text(StatusCode::BAD_REQUEST, "error reading body"),
    })
}

fn lease_answer(answer: Result<Bytes, LeaseError>, not_primary: StatusCode) -> Response {
    let error = match answer {
        Ok(body) => return reply::with_type(StatusCode::OK, "application/protobuf", body),
        Err(error) => error,
    };
    let status = match error {
        LeaseError::NotFound => StatusCode::NOT_FOUND,
        LeaseError::NotPrimary => not_primary,
        LeaseError::Timeout => StatusCode::REQUEST_TIMEOUT,
        LeaseError::Malformed => StatusCode::BAD_REQUEST,
        LeaseError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    reply::text(status, &error.to_string())
}

enum BodyError {
    TooLarge,
    Broken,
}

async fn read_body(mut body: Body) -> Result<Bytes, BodyError> {
    let read = async {
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(|_| BodyError::Broken)?.into_data().unwrap_or_default();
            if all.len() + data.len() > BODY_BYTES_MAX {
                return Err(BodyError::TooLarge);
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    };
    timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(BodyError::Broken))
}
