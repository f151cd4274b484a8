//! The client handle: connections, choice of an endpoint, metadata, retries.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etcdrs_platform::{OsRandom, Random};
use futures_util::Stream;
use prost::Message;
use tokio::sync::RwLock;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::config::{Config, Credentials};
use crate::dial;
use crate::error::{AUTH_OFF_TEXT, Error};
use crate::lease::Keeper;
use crate::pb;
use crate::retry::{self, ATTEMPTS_MAX, Rpc, Verdict};
use crate::watch::{Opener, WatchStream};

/// The API level that calls announce (CL-02).
const API_VERSION: &str = "3.7";
/// A token that is refused this often in a row is refused for good.
const TOKEN_RENEWALS_MAX: u32 = 3;

/// A handle on a cluster. Cloning is cheap; clones share connections, token, the watch stream
/// and the keep-alive stream.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// See [`Config::call_timeout`]; differs between clones.
    call_timeout: Option<Duration>,
}

pub(crate) struct Shared {
    config: Config,
    endpoints: Vec<Channel>,
    next: AtomicUsize,
    metadata: MetadataMap,
    token: RwLock<Option<AsciiMetadataValue>>,
    /// Why the last attempt to connect failed, until a call says so or gets through.
    last_dial: Mutex<Option<String>>,
    watches: WatchStream,
    keeper: Keeper,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.shared.config.endpoints).finish()
    }
}

impl Client {
    /// Makes a client. Connections open when they are needed, so an unreachable cluster shows at
    /// the first call; with credentials the token is fetched here.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for no or malformed endpoints, and what
    /// the server says about the credentials.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::config("etcdclient: no available endpoints"));
        }
        let endpoints = config
            .endpoints
            .iter()
            .map(|text| dial::channel(text, &config))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut metadata = MetadataMap::new();
        metadata.insert("client-api-version", AsciiMetadataValue::from_static(API_VERSION));
        if config.require_leader {
            metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        }
        let call_timeout = config.call_timeout;
        // The actors of the shared streams reach back through a weak handle, so that dropping
        // the last client ends them.
        let shared = Arc::new_cyclic(|weak| {
            let opener = Opener::new(weak.clone());
            Shared {
                watches: WatchStream::new(opener.clone()),
                keeper: Keeper::new(opener),
                config,
                endpoints,
                next: AtomicUsize::new(0),
                metadata,
                token: RwLock::new(None),
                last_dial: Mutex::new(None),
            }
        });
        let client = Self { shared, call_timeout };
        client.authenticate().await?;
        Ok(client)
    }

    /// A handle on the same connections whose calls take at most `limit`; `None` waits for ever.
    #[must_use]
    pub fn with_timeout(&self, limit: Option<Duration>) -> Self {
        Self { shared: Arc::clone(&self.shared), call_timeout: limit }
    }

    /// A client of one endpoint alone, configured like this one: for calls that concern a member
    /// rather than the cluster. It has a connection of its own.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn at(&self, endpoint: &str) -> Result<Self, Error> {
        let config = Config {
            endpoints: vec![endpoint.to_owned()],
            call_timeout: self.call_timeout,
            ..self.shared.config.clone()
        };
        // Boxed, because connecting may authenticate, which is a call like any other.
        Box::pin(Self::connect(config)).await
    }

    /// The endpoints as configured.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.shared.config.endpoints
    }

    /// See [`Config::call_timeout`].
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// What all clones share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A unary call, retried by the rules of its [`Rpc`], within the call's time.
    pub(crate) async fn call<Q, R>(&self, rpc: Rpc, request: Q) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.within(self.call_timeout, self.shared.call(rpc, request)).await
    }

    /// Does work of this client, within a time limit if there is one.
    pub(crate) async fn within<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(Error::deadline(self.shared.last_dial().take()))),
        }
    }

    /// A call with one request and a stream of answers, tried again only while it could not be
    /// sent at all.
    pub(crate) async fn server_stream<Q, R>(
        &self,
        rpc: Rpc,
        request: Q,
    ) -> Result<Streaming<R>, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let mut attempt = 0;
        loop {
            let failure = match self.shared.server_stream_once(rpc, request.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(failure) => failure,
            };
            self.shared.note(&failure);
            let limit = self.call_timeout.is_some() && attempt >= ATTEMPTS_MAX;
            if limit || !retry::never_sent(&failure) {
                return Err(failure.into());
            }
            attempt += 1;
            self.shared.pause(attempt).await;
        }
    }

    async fn authenticate(&self) -> Result<(), Error> {
        let limit = Some(self.shared.config.dial_timeout);
        self.within(limit, self.shared.authenticate()).await
    }
}

impl Shared {
    /// The watch stream that all clones of a client share.
    pub(crate) fn watches(&self) -> &WatchStream {
        &self.watches
    }

    /// The actor behind [`Client::keep_alive`].
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    fn last_dial(&self) -> MutexGuard<'_, Option<String>> {
        self.last_dial.lock().expect("nothing panics while it holds the lock")
    }

    /// Remembers why a connection could not be opened, if that is what the failure says.
    fn note(&self, failure: &Status) {
        if let Some(why) = retry::dial_failure(failure) {
            *self.last_dial() = Some(why);
        }
    }

    /// The next endpoint, round robin.
    fn pick(&self) -> Channel {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.endpoints[next % self.endpoints.len()].clone()
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.pick())
            .max_encoding_message_size(self.config.send_bytes_max)
            .max_decoding_message_size(self.config.receive_bytes_max)
    }

    async fn request<Q>(&self, message: Q, has_leader: bool) -> Request<Q> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        *metadata = self.metadata.clone();
        if has_leader {
            metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        }
        if self.config.credentials.is_some()
            && let Some(token) = self.token.read().await.as_ref()
        {
            metadata.insert("token", token.clone());
        }
        request
    }

    /// Waits as the retry rules say before attempt number `attempt`, counted from 1.
    pub(crate) async fn pause(&self, attempt: u32) {
        let mut noise = [0; 4];
        OsRandom.fill(&mut noise);
        let wait = retry::wait_before(attempt, self.endpoints.len(), u32::from_le_bytes(noise));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    async fn call<Q, R>(&self, rpc: Rpc, request: Q) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let (mut attempt, mut counted, mut renewals) = (0, 0, 0);
        loop {
            let failure = match self.unary_once(rpc, request.clone()).await {
                Ok(answer) => {
                    if attempt > 0 {
                        self.last_dial().take();
                    }
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            self.note(&failure);
            attempt += 1;
            match retry::judge(rpc, &failure, self.endpoints.len()) {
                Verdict::NeverSent => {}
                Verdict::Again if counted < ATTEMPTS_MAX => counted += 1,
                Verdict::Reauthenticate
                    if self.config.credentials.is_some() && renewals < TOKEN_RENEWALS_MAX =>
                {
                    renewals += 1;
                    self.authenticate().await?;
                    continue;
                }
                _ => return Err(failure.into()),
            }
            self.pause(attempt).await;
        }
    }

    async fn unary_once<Q, R>(&self, rpc: Rpc, message: Q) -> Result<R, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let request = self.request(message, false).await;
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = PathAndQuery::from_static(rpc.path);
        let answer = grpc.unary(request, path, ProstCodec::<Q, R>::default()).await?;
        Ok(answer.into_inner())
    }

    async fn server_stream_once<Q, R>(&self, rpc: Rpc, message: Q) -> Result<Streaming<R>, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let request = self.request(message, false).await;
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = PathAndQuery::from_static(rpc.path);
        let answer = grpc.server_streaming(request, path, ProstCodec::<Q, R>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream of requests and answers. Servers send their headers with the first answer,
    /// so this completes only once one is on its way.
    pub(crate) async fn duplex<Q, R>(
        &self,
        rpc: Rpc,
        requests: impl Stream<Item = Q> + Send + 'static,
        has_leader: bool,
    ) -> Result<Streaming<R>, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let request = self.request(requests, has_leader).await;
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = PathAndQuery::from_static(rpc.path);
        let answer = grpc.streaming(request, path, ProstCodec::<Q, R>::default()).await?;
        Ok(answer.into_inner())
    }

    /// Fetches a token where there are credentials. A cluster with authentication off needs none
    /// and says so, which is no error (CL-09).
    pub(crate) async fn authenticate(&self) -> Result<(), Error> {
        const AUTHENTICATE: Rpc = Rpc::once("/etcdserverpb.Auth/Authenticate");
        let Some(Credentials { user, password }) = &self.config.credentials else {
            return Ok(());
        };
        let request = pb::AuthenticateRequest { name: user.clone(), password: password.clone() };
        let mut attempt = 0;
        let answer: Result<pb::AuthenticateResponse, Status> = loop {
            match self.unary_once(AUTHENTICATE, request.clone()).await {
                Err(failure) if retry::never_sent(&failure) => {
                    self.note(&failure);
                    attempt += 1;
                }
                answer => break answer,
            }
            self.pause(attempt).await;
        };
        let token = match answer {
            Err(failure) if failure.message() == AUTH_OFF_TEXT => None,
            Err(failure) => return Err(failure.into()),
            Ok(answer) => Some(
                AsciiMetadataValue::from_str(&answer.token)
                    .map_err(|_| Error::corrupt("the token is not printable"))?,
            ),
        };
        *self.token.write().await = token;
        Ok(())
    }
}
