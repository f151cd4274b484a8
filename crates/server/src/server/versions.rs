//! The cluster version: the leader asks every member for its own, and proposes the lowest.

use std::time::Duration;

use etcdrs_membership::{Version, negotiate};
use etcdrs_types::MemberId;

use crate::api::Api;
use crate::peers::PeerQuestions;

/// How often the leader looks (operations.md §2.16).
const LOOK: Duration = Duration::from_secs(4);
/// Before anything is agreed it looks more often: clients wait for it.
const LOOK_FIRST: Duration = Duration::from_millis(100);

/// Looks before a version is agreed without those that do not answer.
const PATIENT_LOOKS: u32 = 10;
/// How long a member that begins waits for the version before it serves clients, who ask for it.
const DECISION: Duration = Duration::from_secs(2);

/// Returns once there is a cluster version, or after a while without.
pub(super) async fn decided(api: &Api) {
    let look = async {
        while api.state.cluster.read().version().is_none() {
            tokio::time::sleep(LOOK_FIRST / 10).await;
        }
    };
    if tokio::time::timeout(DECISION, look).await.is_err() {
        tracing::warn!("serving clients before the cluster version is decided");
    }
}

/// Keeps the cluster version what the members make possible, while this member leads.
pub(super) async fn monitor(api: Api, questions: PeerQuestions) {
    let mut patience = PATIENT_LOOKS;
    loop {
        let known = api.state.cluster.read().version().map(str::to_owned);
        if api.raft.status().is_leader {
            let current = known.as_deref().and_then(|text| text.parse().ok());
            patience = patience.saturating_sub(1);
            if let Some(version) = agree(&api, &questions, current, patience > 0).await
                && let Err(status) = api.set_cluster_version(&version.to_string()).await
            {
                tracing::warn!(error = status.message(), "failed to update cluster version");
            }
        }
        tokio::time::sleep(if known.is_some() { LOOK } else { LOOK_FIRST }).await;
    }
}

/// The version to propose, if it is another one than the current.
///
/// With `patient` nothing is agreed for the first time before every member has answered.
async fn agree(
    api: &Api,
    questions: &PeerQuestions,
    current: Option<Version>,
    patient: bool,
) -> Option<Version> {
    let own: Version = api.settings.version.parse().ok()?;
    let members: Vec<(MemberId, Vec<String>)> = {
        let cluster = api.state.cluster.read();
        cluster.members().map(|member| (member.id, member.peer_urls.clone())).collect()
    };
    let mut versions = Vec::with_capacity(members.len());
    for (id, urls) in members {
        if id == api.raft.member() {
            versions.push(Some(own));
        } else {
            versions.push(version_of(api, questions, &urls).await);
        }
    }
    if patient && current.is_none() && versions.contains(&None) {
        return None;
    }
    negotiate(current, versions)
}

async fn version_of(api: &Api, questions: &PeerQuestions, urls: &[String]) -> Option<Version> {
    for url in urls {
        let told = questions.server_version(url, api.settings.request_timeout).await;
        if let Some(version) = told.ok().and_then(|text| text.parse().ok()) {
            return Some(version);
        }
    }
    None
}
