//! Ids of members and clusters (MB-01, operations.md §2.4).

use etcdrs_types::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member with these peer URLs: the first 8 bytes, big-endian, of SHA-1 over the
/// sorted URLs, the cluster's token, and for a member added at run time the decimal seconds of the
/// Unix clock.
///
/// ```
/// use etcdrs_membership::member_id;
/// let id = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster", None);
/// assert_eq!(id.to_string(), "8e9e05c52164694d");
/// ```
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str, added_at_seconds: Option<u64>) -> MemberId {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_at_seconds {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight(hash))
}

/// The id of a cluster that starts with these members: the same over their sorted ids, 8 bytes
/// big-endian each.
#[must_use]
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mb_01_checked_values() {
        let id = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster", None);
        assert_eq!(id.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster_id(&[id]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn mb_01_order_of_urls_and_members_is_irrelevant() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let turned = [urls[1].clone(), urls[0].clone()];
        assert_eq!(member_id(&urls, "t", None), member_id(&turned, "t", None));
        assert_ne!(member_id(&urls, "t", None), member_id(&urls, "t", Some(1)));
        let (one, two) = (MemberId(1), MemberId(2));
        assert_eq!(cluster_id(&[one, two]), cluster_id(&[two, one]));
    }
}
