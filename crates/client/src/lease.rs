//! Leases: grant, revoke, look at, keep alive.

mod keeper;

use tokio::sync::mpsc;
use tonic::Streaming;

use crate::channel::Client;
use crate::error::Error;
pub(crate) use crate::lease::keeper::Keeper;
use crate::pb;
use crate::retry::{self, Rpc};

const GRANT: Rpc = Rpc::repeatable("/etcdserverpb.Lease/LeaseGrant");
const REVOKE: Rpc = Rpc::repeatable("/etcdserverpb.Lease/LeaseRevoke");
const TIME_TO_LIVE: Rpc = Rpc::repeatable("/etcdserverpb.Lease/LeaseTimeToLive");
const LEASES: Rpc = Rpc::repeatable("/etcdserverpb.Lease/LeaseLeases");
pub(crate) const KEEP_ALIVE: Rpc = Rpc::repeatable("/etcdserverpb.Lease/LeaseKeepAlive");

impl Client {
    /// Makes a lease of `ttl_seconds`, which the server may raise. `id` 0 lets it choose one.
    ///
    /// # Errors
    /// Kind `FailedPrecondition` for an id in use, else as any call.
    pub async fn lease_grant(
        &self,
        ttl_seconds: i64,
        id: i64,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        self.call(GRANT, pb::LeaseGrantRequest { ttl: ttl_seconds, id }).await
    }

    /// Ends a lease; its keys are deleted.
    ///
    /// # Errors
    /// Kind `LeaseNotFound`, else as any call.
    pub async fn lease_revoke(&self, id: i64) -> Result<pb::LeaseRevokeResponse, Error> {
        self.call(REVOKE, pb::LeaseRevokeRequest { id }).await
    }

    /// How long a lease has left (-1: there is no such lease) and, if asked for, its keys.
    ///
    /// # Errors
    /// As any call.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.call(TIME_TO_LIVE, pb::LeaseTimeToLiveRequest { id, keys }).await
    }

    /// Every lease.
    ///
    /// # Errors
    /// As any call.
    pub async fn leases(&self) -> Result<pb::LeaseLeasesResponse, Error> {
        self.call(LEASES, pb::LeaseLeasesRequest {}).await
    }

    /// Renews a lease every third of its TTL until the handle is dropped or the lease is gone.
    /// All keep-alives of a client and its clones share one stream.
    ///
    /// # Errors
    /// None but the end of the client.
    pub fn keep_alive(&self, id: i64) -> Result<KeepAlive, Error> {
        let renewals = self.shared().keeper().keep(id)?;
        Ok(KeepAlive { renewals, _client: self.clone() })
    }

    /// Renews a lease once.
    ///
    /// # Errors
    /// Kind `LeaseNotFound` for a lease that is gone, else as any call.
    pub async fn keep_alive_once(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let answer = self.lease_stream().renew(id).await?;
        if answer.ttl <= 0 { Err(Error::lease_not_found()) } else { Ok(answer) }
    }

    /// A stream on which leases are renewed when the caller says so.
    #[must_use]
    pub fn lease_stream(&self) -> LeaseStream {
        LeaseStream { client: self.clone(), open: None }
    }
}

/// The renewals of one lease as they happen. Dropping it lets the lease run out.
#[derive(Debug)]
pub struct KeepAlive {
    renewals: mpsc::Receiver<pb::LeaseKeepAliveResponse>,
    /// Keeps the connections.
    _client: Client,
}

impl KeepAlive {
    /// The next renewal; `None` when the lease is gone or could not be renewed in time.
    pub async fn next(&mut self) -> Option<pb::LeaseKeepAliveResponse> {
        self.renewals.recv().await
    }
}

/// Renews leases one at a time on one stream; see [`Client::lease_stream`].
pub struct LeaseStream {
    client: Client,
    open: Option<Open>,
}

struct Open {
    requests: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

impl std::fmt::Debug for LeaseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseStream").field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl LeaseStream {
    /// Renews a lease. An answer with TTL 0 says that there is no such lease.
    ///
    /// # Errors
    /// As any call; the stream is opened again by the next one.
    pub async fn renew(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let client = self.client.clone();
        let answer = client.within(client.timeout(), self.exchange(id)).await;
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let request = pb::LeaseKeepAliveRequest { id };
        if let Some(open) = &mut self.open {
            // A send that fails shows up as the end of the answers.
            let _ = open.requests.send(request);
            return open.answers.message().await?.ok_or_else(Error::closed);
        }
        let mut open = self.open(request).await?;
        let answer = open.answers.message().await?.ok_or_else(Error::closed)?;
        self.open = Some(open);
        Ok(answer)
    }

    /// Opens the stream with its first request, trying all endpoints while none can be reached.
    async fn open(&self, first: pb::LeaseKeepAliveRequest) -> Result<Open, Error> {
        let shared = self.client.shared();
        let mut attempt = 0;
        loop {
            let (requests, mut outbox) = mpsc::unbounded_channel();
            let _ = requests.send(first);
            let outbox = futures_util::stream::poll_fn(move |cx| outbox.poll_recv(cx));
            match shared.duplex(KEEP_ALIVE, outbox, true).await {
                Ok(answers) => return Ok(Open { requests, answers }),
                Err(failure) if retry::never_sent(&failure) => attempt += 1,
                Err(failure) => return Err(failure.into()),
            }
            shared.pause(attempt).await;
        }
    }
}
