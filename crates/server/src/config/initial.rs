//! `--initial-cluster`: who is to be a member of a cluster that does not exist yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use etcdrs_membership::{MemberRecord, member_id};

use super::Url;

/// Names and their peer URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// Peer URLs by member name, sorted.
    pub members: BTreeMap<String, Vec<Url>>,
}

impl InitialCluster {
    /// One member alone.
    #[must_use]
    pub fn of(name: &str, urls: &[Url]) -> Self {
        let mut urls = urls.to_vec();
        urls.sort();
        Self { members: BTreeMap::from([(name.to_owned(), urls)]) }
    }

    /// Reads `name=url,name=url`; a repeated name adds a URL to its member.
    ///
    /// # Errors
    ///
    /// A text that names the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cluster = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, url)) = part.split_once('=') else {
                return Err(format!("{part:?} of --initial-cluster has no name: want name=url"));
            };
            if name.is_empty() {
                return Err(format!("empty name in {part:?} of --initial-cluster"));
            }
            cluster.members.entry(name.into()).or_default().push(Url::parse(url)?);
        }
        for urls in cluster.members.values_mut() {
            urls.sort();
        }
        Ok(cluster)
    }

    /// Whether a URL stands in it twice.
    #[must_use]
    pub fn has_duplicate_url(&self) -> bool {
        let mut seen = BTreeSet::new();
        !self.members.values().flatten().all(|url| seen.insert(url))
    }

    /// The members' records, by ascending id (MB-01). Names are known from the beginning, client
    /// URLs are published later.
    ///
    /// # Errors
    ///
    /// A text if two members would have the same id.
    pub fn records(&self, token: &str) -> Result<Vec<MemberRecord>, String> {
        let mut records = BTreeMap::new();
        for (name, urls) in &self.members {
            let peer_urls: Vec<String> = urls.iter().map(Url::to_string).collect();
            let id = member_id(&peer_urls, token, None);
            let record =
                MemberRecord { id, name: name.clone(), peer_urls, ..MemberRecord::default() };
            if records.insert(id, record).is_some() {
                return Err(format!("member exists with identical ID {id}"));
            }
        }
        Ok(records.into_values().collect())
    }
}

/// The form of the flag, sorted.
impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |(name, urls): (&String, &Vec<Url>)| {
            urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>()
        };
        let mut parts: Vec<String> = self.members.iter().flat_map(named).collect();
        parts.sort();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use etcdrs_membership::cluster_id;

    use super::*;

    fn parse(text: &str) -> InitialCluster {
        InitialCluster::parse(text).expect("an initial cluster")
    }

    #[test]
    fn repeated_names_join() {
        let cluster = parse("b=http://h:2,a=http://h:1, b=http://h:3");
        assert_eq!(cluster.members.len(), 2);
        assert_eq!(cluster.members["b"].len(), 2);
        assert_eq!(cluster.to_string(), "a=http://h:1,b=http://h:2,b=http://h:3");
        assert!(InitialCluster::parse("http://h:1").is_err());
        assert!(InitialCluster::parse("=http://h:1").is_err());
    }

    #[test]
    fn duplicate_urls_are_seen() {
        assert!(parse("a=http://h:1,b=http://h:1").has_duplicate_url());
        assert!(parse("a=http://h:1,a=http://h:1").has_duplicate_url());
        assert!(!parse("a=http://h:1,b=http://h:2").has_duplicate_url());
        let twins = parse("a=http://h:1,b=http://h:1").records("t").expect_err("same id");
        assert!(twins.starts_with("member exists with identical ID "), "{twins}");
    }

    /// Ids that etcd 3.5.1 logged when it was started with these flags.
    #[test]
    fn t_u15_ids_are_those_of_etcd() {
        let cluster = parse(
            "a=http://127.0.0.1:33302,b=http://127.0.0.1:33304,c=http://127.0.0.1:33306,\
             b=http://127.0.0.1:12306",
        );
        let records = cluster.records("tkn").expect("records");
        let ids: Vec<String> =
            records.iter().map(|record| format!("{}={}", record.name, record.id)).collect();
        assert_eq!(ids, ["a=b8ebadf8e56addee", "c=e2dc048ea535c85f", "b=f38a8910c98271b8"]);
        // URLs are sorted as texts: port 12306 stands before 33304, and 2380 behind both.
        assert_eq!(records[2].peer_urls, ["http://127.0.0.1:12306", "http://127.0.0.1:33304"]);
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        assert_eq!(cluster_id(&ids).to_string(), "4565034e55154c48");
        let sorted = parse("a=http://h:2380,a=http://h:12380").records("").expect("records");
        assert_eq!(sorted[0].peer_urls, ["http://h:12380", "http://h:2380"]);
    }
}
