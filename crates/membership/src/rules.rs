//! Which membership changes are allowed (MB-03 to MB-07; operations.md §2.15).
//!
//! The leader asks before it appends a change. Members whose lists are equal come to the same
//! answer about ids and URLs; what is reachable or caught up is the leader's own view.

use std::collections::BTreeMap;

use etcdrs_types::MemberId;

use crate::{Change, Cluster, MemberRecord};

/// A link counts once it has been up for this long without a break, milliseconds.
pub const HEALTH_MS: u64 = 5000;

/// Why a change is not allowed, in the words that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The id is unknown, or belonged to a member that was removed.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// The id is in use.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member has one of the peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// `--max-learners` would be exceeded.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Members that have been started would be no quorum any more.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Members that can be reached would be no quorum any more.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// A voter cannot be promoted.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner lags too far behind to be given a vote.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
}

/// What the flags say about membership changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `--strict-reconfig-check`: changes must leave a quorum that works.
    pub strict: bool,
    /// `--max-learners`.
    pub learners_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { strict: true, learners_max: 1 }
    }
}

/// The cluster as the leader sees it at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The members, by the newest applied entry.
    pub cluster: &'a Cluster,
    /// The member that looks.
    pub local: MemberId,
    /// How long each peer's link has been up, milliseconds. A peer whose link is down is absent.
    pub connected_ms: &'a BTreeMap<MemberId, u64>,
    /// How far each member's log is known to agree with the leader's, the leader's own included.
    pub matched: &'a BTreeMap<MemberId, u64>,
    /// The flags.
    pub policy: Policy,
}

impl View<'_> {
    /// Whether a change may be appended now.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, in etcd's order: quorum rules before ids and URLs.
    pub fn check(&self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::Add(member) => self.check_add(member),
            Change::Promote(id) => self.check_promote(*id),
            Change::Remove(id) => self.check_remove(*id),
            Change::Update { .. } => self.cluster.check(change),
        }
    }

    fn check_add(&self, member: &MemberRecord) -> Result<(), Refused> {
        let voters = self.voters().count();
        if self.policy.strict {
            let enlarged = voters + 1;
            // One started member may take a second one in, or it could never grow.
            let alone = voters == 1 && self.started() == 1;
            if !member.is_learner && !alone && self.started() < quorum(enlarged) {
                return Err(Refused::NotEnoughStarted);
            }
            // The new member counts as one that is down.
            if voters > 1 && self.connected() < quorum(enlarged) {
                return Err(Refused::Unhealthy);
            }
        }
        self.cluster.check(&Change::Add(member.clone()))?;
        let learners = self.cluster.members().filter(|member| member.is_learner).count();
        if member.is_learner && learners >= self.policy.learners_max {
            return Err(Refused::TooManyLearners);
        }
        Ok(())
    }

    fn check_remove(&self, id: MemberId) -> Result<(), Refused> {
        let member = self.cluster.member(id);
        if member.is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        let voters = self.voters().count();
        let left = voters - usize::from(member.is_some());
        if member.is_some() && left == 0 {
            // Not a matter of policy: raft without a voter is no raft.
            return Err(Refused::NotEnoughStarted);
        }
        if self.policy.strict {
            let started = self.voters().filter(|m| m.id != id && m.is_started()).count();
            if started < quorum(left) {
                return Err(Refused::NotEnoughStarted);
            }
            // One that cannot be reached is no part of the quorum that works.
            let reachable = id == self.local || self.connected_ms.contains_key(&id);
            if reachable && self.connected().saturating_sub(1) < quorum(voters.saturating_sub(1)) {
                return Err(Refused::Unhealthy);
            }
        }
        self.cluster.check(&Change::Remove(id))
    }

    fn check_promote(&self, id: MemberId) -> Result<(), Refused> {
        // The leader follows every member, so an id without progress is no member.
        let matched = *self.matched.get(&id).ok_or(Refused::MemberNotFound)?;
        let leader = self.matched.get(&self.local).copied().unwrap_or_default();
        if u128::from(matched) * 10 < u128::from(leader) * 9 {
            return Err(Refused::LearnerNotReady);
        }
        // The learner counts as started: it could not be in sync otherwise.
        if self.policy.strict && self.started() + 1 < quorum(self.voters().count() + 1) {
            return Err(Refused::NotEnoughStarted);
        }
        self.cluster.check(&Change::Promote(id))
    }

    fn voters(&self) -> impl Iterator<Item = &MemberRecord> {
        self.cluster.members().filter(|member| !member.is_learner)
    }

    fn started(&self) -> usize {
        self.voters().filter(|member| member.is_started()).count()
    }

    /// Voters that this member has been in touch with for long enough, itself included.
    fn connected(&self) -> usize {
        let healthy = |id| self.connected_ms.get(&id).is_some_and(|&ms| ms >= HEALTH_MS);
        self.voters().filter(|member| member.id == self.local || healthy(member.id)).count()
    }
}

/// The least number of voters that is more than half.
const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Cluster {
    /// The rules that depend on nothing but the list of members, the same everywhere: ids and
    /// URLs. [`View::check`] asks them too.
    ///
    /// # Errors
    ///
    /// The rule that the change breaks.
    pub fn check(&self, change: &Change) -> Result<(), Refused> {
        if self.is_removed(change.member()) {
            return Err(Refused::MemberNotFound);
        }
        let known = self.member(change.member());
        match change {
            Change::Add(_) if known.is_some() => Err(Refused::MemberExists),
            Change::Add(member) => self.check_urls(member.id, &member.peer_urls),
            _ if known.is_none() => Err(Refused::MemberNotFound),
            Change::Remove(_) => Ok(()),
            Change::Update { id, peer_urls } => self.check_urls(*id, peer_urls),
            Change::Promote(_) if known.is_some_and(|member| member.is_learner) => Ok(()),
            Change::Promote(_) => Err(Refused::NotLearner),
        }
    }

    fn check_urls(&self, of: MemberId, urls: &[String]) -> Result<(), Refused> {
        let mut others = self.members().filter(|member| member.id != of);
        if others.any(|member| member.peer_urls.iter().any(|url| urls.contains(url))) {
            return Err(Refused::PeerUrlExists);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
