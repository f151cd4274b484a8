//! Questions to a peer URL, one connection each: before a member has joined, and seldom after.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use etcdrs_types::{ClusterId, MemberId};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::{
    HashError, HashKv, HashKvJson, HashKvRequest, LeaseError, PROMOTE_PREFIX, PeerMember,
    PromoteError, Versions,
};
use crate::connect::Connect;
use crate::headers::{CLUSTER_ID, parse_member};
use crate::http1::{Dial, HttpError};
use crate::reply;
use crate::url::PeerUrl;

/// Largest answer, bytes: a member list with room for very long URLs.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a question got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// An answer that is no success and has no meaning of its own here.
    #[error("unexpected status {status}: {text}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The peer's words.
        text: String,
    },
    /// An answer that cannot be understood.
    #[error("cannot understand the answer: {0}")]
    Malformed(String),
}

/// Why a question failed: the peer said no, or there was no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E: std::error::Error + 'static> {
    /// The peer's refusal.
    #[error(transparent)]
    Refused(E),
    /// There was none.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Asks peers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    connector: Arc<dyn Connect>,
    limit: Duration,
    cluster: Option<ClusterId>,
}

impl Client {
    /// A client whose questions fail after `limit` in all.
    #[must_use]
    pub fn new(connector: Arc<dyn Connect>, limit: Duration) -> Self {
        Self { connector, limit, cluster: None }
    }

    /// The same, with another limit.
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The same, whose questions about data say which cluster they mean.
    #[must_use]
    pub fn for_cluster(&self, cluster: ClusterId) -> Self {
        Self { cluster: Some(cluster), ..self.clone() }
    }

    /// The cluster and its members, as the peer knows them.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn members(&self, url: &PeerUrl) -> Result<(ClusterId, Vec<PeerMember>), CallError> {
        let answer = self.ask(url, Method::GET, "/members", Bytes::new()).await?;
        let answer = success(answer)?;
        let cluster = reply::header_text(answer.headers(), CLUSTER_ID)
            .and_then(parse_member)
            .ok_or_else(|| CallError::Malformed("it names no cluster".into()))?;
        Ok((ClusterId(cluster.0), json(answer.body())?))
    }

    /// Versions of the peer.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn version(&self, url: &PeerUrl) -> Result<Versions, CallError> {
        let answer = self.ask(url, Method::GET, "/version", Bytes::new()).await?;
        json(success(answer)?.body())
    }

    /// Whether the peer sees a downgrade under way.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn downgrade_enabled(&self, url: &PeerUrl) -> Result<bool, CallError> {
        let answer = self.ask(url, Method::GET, "/downgrade/enabled", Bytes::new()).await?;
        let text = reply::text_of(success(answer)?.body());
        text.parse().map_err(|_| CallError::Malformed(text))
    }

    /// Asks the leader to promote a learner, in the name of the owner of `token`.
    ///
    /// # Errors
    ///
    /// See [`PromoteError`] and [`CallError`].
    pub async fn promote(
        &self,
        url: &PeerUrl,
        id: MemberId,
        token: Option<&str>,
    ) -> Result<Vec<PeerMember>, Failure<PromoteError>> {
        let path = format!("{PROMOTE_PREFIX}{}", id.0);
        let mut request = self.request(url, Method::POST, &path, Bytes::new());
        if let Some(token) = token {
            let token = HeaderValue::from_str(token)
                .map_err(|_| CallError::Malformed("the token is no header value".into()))?;
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        let answer = self.exchange(url, request).await?;
        let text = reply::text_of(answer.body());
        let refusal = match answer.status() {
            StatusCode::OK => return Ok(json(answer.body())?),
            StatusCode::NOT_FOUND if text == PromoteError::NotFound.to_string() => {
                PromoteError::NotFound
            }
            StatusCode::PRECONDITION_FAILED if text == PromoteError::NotLearner.to_string() => {
                PromoteError::NotLearner
            }
            StatusCode::PRECONDITION_FAILED if text == PromoteError::NotReady.to_string() => {
                PromoteError::NotReady
            }
            StatusCode::REQUEST_TIMEOUT => PromoteError::Timeout(text),
            StatusCode::SERVICE_UNAVAILABLE => PromoteError::Unavailable,
            StatusCode::INTERNAL_SERVER_ERROR => PromoteError::Internal,
            status => return Err(CallError::Status { status: status.as_u16(), text }.into()),
        };
        Err(Failure::Refused(refusal))
    }

    /// Hash of the peer's keys and values at `revision`.
    ///
    /// # Errors
    ///
    /// See [`HashError`] and [`CallError`].
    pub async fn hash_kv(
        &self,
        url: &PeerUrl,
        revision: i64,
    ) -> Result<HashKv, Failure<HashError>> {
        let question = serde_json::to_vec(&HashKvRequest { revision });
        let question = question.map_err(|error| CallError::Malformed(error.to_string()))?;
        let answer = self.ask(url, Method::GET, "/members/hashkv", question.into()).await?;
        let text = reply::text_of(answer.body());
        let known = [HashError::Compacted, HashError::Future];
        match answer.status() {
            StatusCode::OK => Ok(json::<HashKvJson>(answer.body())?.into()),
            StatusCode::PRECONDITION_FAILED => Err(Failure::Refused(HashError::OtherCluster)),
            StatusCode::BAD_REQUEST => {
                let known = known.into_iter().find(|error| error.to_string() == text);
                Err(Failure::Refused(known.unwrap_or(HashError::Other(text))))
            }
            status => Err(CallError::Status { status: status.as_u16(), text }.into()),
        }
    }

    /// Renews a lease on the leader: `LeaseKeepAliveRequest` in, `LeaseKeepAliveResponse` out.
    ///
    /// # Errors
    ///
    /// See [`LeaseError`] and [`CallError`].
    pub async fn lease_renew(
        &self,
        url: &PeerUrl,
        request: Bytes,
    ) -> Result<Bytes, Failure<LeaseError>> {
        self.lease(url, "/leases", request).await
    }

    /// Time to live of a lease, from the leader: `LeaseInternalRequest` in,
    /// `LeaseInternalResponse` out.
    ///
    /// # Errors
    ///
    /// See [`LeaseError`] and [`CallError`].
    pub async fn lease_internal(
        &self,
        url: &PeerUrl,
        request: Bytes,
    ) -> Result<Bytes, Failure<LeaseError>> {
        self.lease(url, "/leases/internal", request).await
    }

    async fn lease(
        &self,
        url: &PeerUrl,
        path: &str,
        request: Bytes,
    ) -> Result<Bytes, Failure<LeaseError>> {
        let answer = self.ask(url, Method::POST, path, request).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        let text = reply::text_of(answer.body());
        let refusal = [
            LeaseError::NotFound,
            LeaseError::NotPrimary,
            LeaseError::Timeout,
            LeaseError::Malformed,
        ]
        .into_iter()
        .find(|error| error.to_string() == text);
        Err(Failure::Refused(refusal.unwrap_or(LeaseError::Other(text))))
    }

    async fn ask(
        &self,
        url: &PeerUrl,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, CallError> {
        self.exchange(url, self.request(url, method, path, body)).await
    }

    fn request(&self, url: &PeerUrl, method: Method, path: &str, body: Bytes) -> Request<Body> {
        let content_type = match path {
            "/leases" | "/leases/internal" => "application/protobuf",
            _ => "application/json",
        };
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("paths of this crate are paths");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(host) = HeaderValue::from_str(&url.authority()) {
            headers.insert(header::HOST, host);
        }
        if let Some(cluster) = self.cluster {
            let cluster = HeaderValue::from_str(&cluster.to_string());
            headers.insert(CLUSTER_ID, cluster.expect("hex digits are a header value"));
        }
        request
    }

    async fn exchange(
        &self,
        url: &PeerUrl,
        request: Request<Body>,
    ) -> Result<Response<Bytes>, CallError> {
        let dial = Dial {
            connector: &*self.connector,
            dial_timeout: self.limit,
            write_timeout: self.limit,
        };
        let work = async {
            let mut connection = dial.open(url).await?;
            connection.exchange(request, ANSWER_BYTES_MAX).await
        };
        match timeout(self.limit, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Err(_) | Ok(Err(HttpError::Timeout | HttpError::DialTimeout { .. })) => {
                Err(CallError::Timeout)
            }
            Ok(Err(error)) => Err(CallError::Connection(error.to_string())),
        }
    }
}

fn success(answer: Response<Bytes>) -> Result<Response<Bytes>, CallError> {
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let text = reply::text_of(answer.body());
    Err(CallError::Status { status: answer.status().as_u16(), text })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Malformed(error.to_string()))
}
