//! A membership change and its form inside a log entry.
//!
//! The bytes are etcd's `raftpb.ConfChange`: type, node, and a context that is the member as JSON,
//! with `isPromote` beside it for a promotion (storage-and-raft.md §4.5).

use bytes::Bytes;
use etcdrs_proto::raftpb::{ConfChange, ConfChangeType};
use etcdrs_types::MemberId;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::MemberRecord;

/// What a committed change does to the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member; a voter unless its record says learner.
    Add(MemberRecord),
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member goes, and its id with it for ever.
    Remove(MemberId),
    /// A member moves to other peer URLs.
    Update {
        /// Which member.
        id: MemberId,
        /// Where its peers reach it from now on, sorted.
        peer_urls: Vec<String>,
    },
}

impl Change {
    /// The member that the change is about.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        match self {
            Self::Add(member) => member.id,
            Self::Promote(id) | Self::Remove(id) | Self::Update { id, .. } => *id,
        }
    }
}

/// A change on its way through the log, with the number that its caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Number of the request; 0 if nobody waits.
    pub request_id: u64,
    /// What is to change.
    pub change: Change,
}

/// Why bytes are not a [`ChangeRequest`].
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are not a `ConfChange`.
    #[error("decode configuration change")]
    Protobuf(#[from] prost::DecodeError),
    /// The change lacks its member or carries a damaged one.
    #[error("decode the member of a configuration change")]
    Member(#[from] serde_json::Error),
    /// The change has a type that nobody knows.
    #[error("configuration change of unknown type {0}")]
    Type(i32),
    /// Change and member name different ids.
    #[error("configuration change of member {node} carries member {member}")]
    Id {
        /// The id of the change.
        node: MemberId,
        /// The id in its context.
        member: MemberId,
    },
}

/// The part of the context that is not the member.
#[derive(Default, Serialize, Deserialize)]
struct Extra {
    #[serde(rename = "isPromote", default, skip_serializing_if = "std::ops::Not::not")]
    is_promote: bool,
}

#[derive(Serialize, Deserialize)]
struct Context {
    #[serde(flatten)]
    member: crate::record::Row,
    #[serde(flatten)]
    extra: Extra,
}

impl Context {
    fn of(member: &MemberRecord, is_promote: bool) -> Bytes {
        let context = Self { member: member.to_row(), extra: Extra { is_promote } };
        let json = serde_json::to_vec(&context);
        json.expect("strings and numbers always have a JSON form").into()
    }
}

impl ChangeRequest {
    /// The bytes for the entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, context) = match &self.change {
            Change::Add(member) if member.is_learner => {
                (ConfChangeType::ConfChangeAddLearnerNode, Some(Context::of(member, false)))
            }
            Change::Add(member) => {
                (ConfChangeType::ConfChangeAddNode, Some(Context::of(member, false)))
            }
            Change::Promote(id) => {
                let member = MemberRecord { id: *id, ..MemberRecord::default() };
                (ConfChangeType::ConfChangeAddNode, Some(Context::of(&member, true)))
            }
            Change::Remove(_) => (ConfChangeType::ConfChangeRemoveNode, None),
            Change::Update { id, peer_urls } => {
                let member = MemberRecord {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                    ..MemberRecord::default()
                };
                (ConfChangeType::ConfChangeUpdateNode, Some(Context::of(&member, false)))
            }
        };
        let change = ConfChange {
            id: self.request_id,
            r#type: kind.into(),
            node_id: self.change.member().0,
            context,
        };
        change.encode_to_vec().into()
    }

    /// Reads the bytes of an entry.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if they are not a change whose parts agree.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ConfChange { id, r#type, node_id, context } = ConfChange::decode(bytes)?;
        let node = MemberId(node_id);
        let kind = ConfChangeType::try_from(r#type).map_err(|_| DecodeError::Type(r#type))?;
        let change = if kind == ConfChangeType::ConfChangeRemoveNode {
            Change::Remove(node)
        } else {
            let context: Context = serde_json::from_slice(&context.unwrap_or_default())?;
            let mut member = MemberRecord::from_row(context.member);
            if member.id != node {
                return Err(DecodeError::Id { node, member: member.id });
            }
            match kind {
                ConfChangeType::ConfChangeUpdateNode => {
                    Change::Update { id: node, peer_urls: member.peer_urls }
                }
                ConfChangeType::ConfChangeAddNode if context.extra.is_promote => {
                    Change::Promote(node)
                }
                // The type decides who votes, as in raft itself.
                kind => {
                    member.is_learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
                    Change::Add(member)
                }
            }
        };
        Ok(Self { request_id: id, change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(is_learner: bool) -> MemberRecord {
        let peer_urls = vec!["http://10.0.0.1:2380".to_owned(), "http://b:2380".to_owned()];
        MemberRecord { id: MemberId(0x1a), peer_urls, is_learner, ..MemberRecord::default() }
    }

    #[test]
    fn every_change_comes_back_from_its_entry() {
        let id = MemberId(0x1a);
        let named = MemberRecord { name: "n".into(), ..member(false) };
        for change in [
            Change::Add(member(false)),
            Change::Add(member(true)),
            Change::Add(named),
            Change::Promote(id),
            Change::Remove(id),
            Change::Update { id, peer_urls: vec!["http://c:1".to_owned()] },
        ] {
            let request = ChangeRequest { request_id: 7, change };
            assert_eq!(ChangeRequest::decode(&request.encode()).unwrap(), request);
        }
    }

    #[test]
    fn the_form_is_etcds() {
        let request = ChangeRequest { request_id: 9, change: Change::Promote(MemberId(26)) };
        let change = ConfChange::decode(request.encode()).unwrap();
        assert_eq!((change.id, change.r#type, change.node_id), (9, 0, 26));
        assert_eq!(&change.context.unwrap()[..], br#"{"id":26,"peerURLs":[],"isPromote":true}"#);
        let request = ChangeRequest { request_id: 9, change: Change::Add(member(true)) };
        let change = ConfChange::decode(request.encode()).unwrap();
        assert_eq!(change.r#type, 3);
        let json =
            r#"{"id":26,"peerURLs":["http://10.0.0.1:2380","http://b:2380"],"isLearner":true}"#;
        assert_eq!(&change.context.unwrap()[..], json.as_bytes());
    }

    #[test]
    fn what_etcd_wrote_is_read() {
        let read = |kind, json: &str| {
            let change = ConfChange {
                id: 0,
                r#type: kind,
                node_id: 1,
                context: Some(Bytes::copy_from_slice(json.as_bytes())),
            };
            ChangeRequest::decode(&change.encode_to_vec())
        };
        let promotion = r#"{"id":1,"peerURLs":null,"isPromote":true}"#;
        assert_eq!(read(0, promotion).unwrap().change, Change::Promote(MemberId(1)));
        let addition = r#"{"id":1,"peerURLs":["http://a:1"],"name":"x","isPromote":false}"#;
        assert!(matches!(read(0, addition).unwrap().change, Change::Add(m) if m.name == "x"));
    }

    #[test]
    fn damage_is_named() {
        let fails = |kind, context: &str| {
            let change = ConfChange {
                id: 0,
                r#type: kind,
                node_id: 2,
                context: Some(Bytes::copy_from_slice(context.as_bytes())),
            };
            ChangeRequest::decode(&change.encode_to_vec()).unwrap_err()
        };
        assert!(matches!(fails(9, "{}"), DecodeError::Type(9)));
        assert!(matches!(fails(0, "{"), DecodeError::Member(_)));
        assert!(matches!(fails(0, ""), DecodeError::Member(_)));
        assert_eq!(
            fails(0, r#"{"id":1,"peerURLs":[]}"#).to_string(),
            "configuration change of member 2 carries member 1"
        );
        assert!(matches!(ChangeRequest::decode(b"\xff"), Err(DecodeError::Protobuf(_))));
    }
}
