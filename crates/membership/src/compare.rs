//! The members' rows against raft's own membership, compared at start.
//!
//! Both change with the same entries, so they may differ in two ways only. Whoever was added as a
//! voter is listed as one at once, but raft lets it learn until it has caught up. And a member that
//! joins begins with the rows of those that run, which are ahead of the entries that it applies.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use etcdrs_types::MemberId;

use crate::Cluster;

/// Rows and raft's membership name different members. Both are written in one batch, so the
/// database was damaged or changed by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the member list and raft's membership differ: {0}. This member's database was damaged or changed: to mend it, remove this member from its cluster (etcdctl member remove), empty its --data-dir and add it again (etcdctl member add); the last member is restored from a snapshot"
)]
pub struct Mismatch(String);

impl Cluster {
    /// Holds the members against the voters and learners of raft's membership at the same applied
    /// entry, on member `own`.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] names every member that is not the same on both sides.
    pub fn compare(
        &self,
        own: MemberId,
        voters: &BTreeSet<MemberId>,
        learners: &BTreeSet<MemberId>,
    ) -> Result<(), Mismatch> {
        // What it publishes of itself, it publishes after it took the rows of others. Once that is
        // applied, all is applied that those rows can know of.
        if self.member(own).is_some_and(|member| member.client_urls.is_empty()) {
            return Ok(());
        }
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

    const OWN: MemberId = MemberId(1);

    /// Voters 1 and 2, learner 3; 9 was removed. `published` says what member 1 told of itself.
    fn cluster(published: &[&str]) -> Cluster {
        let mut cluster = Cluster::default();
        for (id, is_learner) in [(1, false), (2, false), (3, true), (9, false)] {
            let (id, mut client_urls) = (MemberId(id), Vec::new());
            if id == OWN {
                client_urls = published.iter().map(|&url| url.to_owned()).collect();
            }
            let record = MemberRecord { id, is_learner, client_urls, ..Default::default() };
            cluster.insert(&mut Batch::new(), record);
        }
        cluster.remove(&mut Batch::new(), MemberId(9));
        cluster
    }

    #[test]
    fn every_difference_is_named() {
        let cluster = cluster(&["http://a:1"]);
        assert_eq!(cluster.compare(OWN, &ids(&[1, 2]), &ids(&[3])), Ok(()));
        let text = cluster.compare(OWN, &ids(&[3, 9]), &ids(&[5])).unwrap_err().to_string();
        let differences = "the member list and raft's membership differ: member 1 is in the member \
             list only, member 2 is in the member list only, member 3 votes in raft only, member 5 is \
             in raft only, member 9 was removed but is in raft. ";
        assert!(text.starts_with(differences), "{text}");
    }

    #[test]
    fn a_member_without_rows_differs_unless_raft_knows_nobody_either() {
        let none = Cluster::default();
        assert_eq!(none.compare(OWN, &ids(&[]), &ids(&[])), Ok(()));
        assert!(none.compare(OWN, &ids(&[1]), &ids(&[])).is_err());
        assert!(cluster(&["http://a:1"]).compare(MemberId(4), &ids(&[1, 2]), &ids(&[])).is_err());
    }

    #[test]
    fn a_listed_voter_may_still_learn_in_raft() {
        let cluster = cluster(&["http://a:1"]);
        assert_eq!(cluster.compare(OWN, &ids(&[1]), &ids(&[2, 3])), Ok(()));
        assert!(cluster.compare(OWN, &ids(&[1]), &ids(&[3])).is_err(), "but it must be there");
    }

    /// Its rows are those of today, what it applied is of long ago.
    #[test]
    fn a_joiner_is_compared_once_it_has_applied_what_it_published() {
        let (voters, learners) = (ids(&[2, 9]), ids(&[]));
        assert_eq!(cluster(&[]).compare(OWN, &voters, &learners), Ok(()));
        assert!(cluster(&["http://a:1"]).compare(OWN, &voters, &learners).is_err());
    }
}
