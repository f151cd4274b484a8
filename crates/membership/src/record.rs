//! One member and its stored form.

use etcdrs_types::MemberId;
use serde::{Deserialize, Deserializer, Serialize};

use crate::member_id;

/// A member. An empty `name` means that it has not started yet (MB-02).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// The id.
    pub id: MemberId,
    /// What it is called; published by the member itself.
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; published by the member itself.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// The JSON of a row, fields in etcd's order (storage-and-raft.md §3.2).
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    client_urls: Vec<String>,
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl MemberRecord {
    /// A member that is to be added to a running cluster now, `unix_seconds`. The token of the
    /// cluster is no part of its id, the time is (MB-01).
    #[must_use]
    pub fn added(mut peer_urls: Vec<String>, is_learner: bool, unix_seconds: u64) -> Self {
        peer_urls.sort();
        let id = member_id(&peer_urls, "", Some(unix_seconds));
        Self { id, peer_urls, is_learner, ..Self::default() }
    }

    /// The row's value.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.to_row()).expect("strings and numbers always have a JSON form")
    }

    /// Reads a row's value.
    ///
    /// # Errors
    ///
    /// What serde says of text that is not a member.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json).map(Self::from_row)
    }

    /// Whether the member has a name, which is what etcd takes for "has been started". Members of
    /// a static bootstrap have theirs from the flags.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    pub(crate) fn to_row(&self) -> Row {
        let Self { id, name, peer_urls, client_urls, is_learner } = self.clone();
        Row { id: id.0, peer_urls, is_learner, name, client_urls }
    }

    pub(crate) fn from_row(row: Row) -> Self {
        let Row { id, peer_urls, is_learner, name, client_urls } = row;
        Self { id: MemberId(id), name, peer_urls, client_urls, is_learner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_etcds_json() {
        let mut member = MemberRecord {
            id: MemberId(0x8e9e_05c5_2164_694d),
            peer_urls: vec!["http://localhost:2380".to_owned()],
            ..MemberRecord::default()
        };
        let unstarted = r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}"#;
        assert_eq!(String::from_utf8(member.to_json()).unwrap(), unstarted);
        assert_eq!(MemberRecord::from_json(unstarted.as_bytes()).unwrap(), member);

        member.name = "default".to_owned();
        member.client_urls = vec!["http://localhost:2379".to_owned()];
        member.is_learner = true;
        let started = r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"isLearner":true,"name":"default","clientURLs":["http://localhost:2379"]}"#;
        assert_eq!(String::from_utf8(member.to_json()).unwrap(), started);
        assert_eq!(MemberRecord::from_json(started.as_bytes()).unwrap(), member);
    }

    /// What etcd 3.5.1 wrote into its log for a `member add --learner` in that second.
    #[test]
    fn t_mb_01_an_added_member_is_salted_with_the_time() {
        let urls = ["http://10.9.9.9:2380", "http://10.9.9.9:12380"].map(str::to_owned);
        let member = MemberRecord::added(urls.to_vec(), true, 1_795_193_437);
        let json = r#"{"id":11500858316546347887,"peerURLs":["http://10.9.9.9:12380","http://10.9.9.9:2380"],"isLearner":true}"#;
        assert_eq!(String::from_utf8(member.to_json()).unwrap(), json);
    }

    #[test]
    fn null_lists_are_empty() {
        let member = MemberRecord::from_json(br#"{"id":1,"peerURLs":null}"#).unwrap();
        assert!(member.peer_urls.is_empty());
        assert!(MemberRecord::from_json(br#"{"peerURLs":[]}"#).is_err());
    }
}
