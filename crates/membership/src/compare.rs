//! The members' rows against raft's own membership, compared at start.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use etcdrs_types::MemberId;

use crate::Cluster;

/// Rows and raft's membership name different members. Both are written in one batch, so the
/// database was damaged or changed by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member list and raft's membership differ: {0}")]
pub struct Mismatch(String);

impl Cluster {
    /// Holds the members against the voters and learners of raft's membership at the same applied
    /// entry.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] names every member that is not the same on both sides.
    pub fn compare(
        &self,
        voters: &BTreeSet<MemberId>,
        learners: &BTreeSet<MemberId>,
    ) -> Result<(), Mismatch> {
        let mut text = String::new();
        let mut differs = |id: MemberId, how: &str| {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}member {id} {how}");
        };
        for member in self.members() {
            match (voters.contains(&member.id), learners.contains(&member.id)) {
                (false, false) => differs(member.id, "is in the member list only"),
                (true, _) if member.is_learner => differs(member.id, "votes in raft only"),
                (false, true) if !member.is_learner => differs(member.id, "votes in the list only"),
                _ => {}
            }
        }
        for &id in voters.union(learners) {
            if self.is_removed(id) {
                differs(id, "was removed but is in raft");
            } else if self.member(id).is_none() {
                differs(id, "is in raft only");
            }
        }
        if text.is_empty() { Ok(()) } else { Err(Mismatch(text)) }
    }
}

#[cfg(test)]
mod tests {
    use etcdrs_backend::Batch;

    use super::*;
    use crate::MemberRecord;

    fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn every_difference_is_named() {
        let mut cluster = Cluster::default();
        for (id, is_learner) in [(1, false), (2, false), (3, true), (9, false)] {
            let id = MemberId(id);
            cluster
                .insert(&mut Batch::new(), MemberRecord { id, is_learner, ..Default::default() });
        }
        cluster.remove(&mut Batch::new(), MemberId(9));
        assert_eq!(cluster.compare(&ids(&[1, 2]), &ids(&[3])), Ok(()));
        assert_eq!(Cluster::default().compare(&ids(&[]), &ids(&[])), Ok(()));
        let text = cluster.compare(&ids(&[3, 9]), &ids(&[2, 5])).unwrap_err().to_string();
        assert_eq!(
            text,
            "the member list and raft's membership differ: member 1 is in the member list only, \
             member 2 votes in the list only, member 3 votes in raft only, \
             member 5 is in raft only, member 9 was removed but is in raft"
        );
    }
}
