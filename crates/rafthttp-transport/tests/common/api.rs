//! Fixed answers to the small questions.

use bytes::Bytes;
use etcdrs_rafthttp_transport::{
    BoxFuture, HashError, HashKv, LeaseError, PeerApi, PeerMember, PromoteError, Versions,
};
use etcdrs_types::MemberId;

pub struct Fake;

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl PeerApi for Fake {
    fn members(&self) -> Vec<PeerMember> {
        vec![
            PeerMember {
                id: 2,
                peer_urls: vec!["http://b:2380".into()],
                is_learner: true,
                ..PeerMember::default()
            },
            PeerMember {
                id: 1,
                peer_urls: vec!["http://a:2380".into()],
                is_learner: false,
                name: "m1".into(),
                client_urls: vec!["http://a:2379".into()],
            },
        ]
    }

    fn promote(
        &self,
        id: MemberId,
        token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PeerMember>, PromoteError>> {
        ready(match id.0 {
            1 if token.as_deref() == Some("secret") => Ok(self.members()),
            2 => Err(PromoteError::NotLearner),
            3 => Err(PromoteError::NotReady),
            4 => Err(PromoteError::Timeout("timeout while promoting".into())),
            5 => Err(PromoteError::Unavailable),
            6 => Err(PromoteError::Internal),
            _ => Err(PromoteError::NotFound),
        })
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashError>> {
        ready(match revision {
            0 => Ok(HashKv { revision: 9, hash: 77, compact_revision: 0, hash_revision: 9 }),
            1 => Err(HashError::Compacted),
            2 => Err(HashError::Future),
            _ => Err(HashError::Other("disk on fire".into())),
        })
    }

    fn version(&self) -> Versions {
        Versions { server: "3.7.1".into(), cluster: "3.7.0".into(), storage: "3.7.0".into() }
    }

    fn lease_renew(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>> {
        ready(match &request[..] {
            b"not found" => Err(LeaseError::NotFound),
            b"not primary" => Err(LeaseError::NotPrimary),
            b"late" => Err(LeaseError::Timeout),
            b"bad" => Err(LeaseError::Malformed),
            _ => Ok(request),
        })
    }

    fn lease_internal(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>> {
        self.lease_renew(request)
    }

    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>> {
        ready(Ok(false))
    }
}
