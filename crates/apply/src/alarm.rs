//! Alarms: replicated flags of a member that block requests (v3-api.md §3.11).

use std::collections::BTreeSet;

use bytes::Bytes;
use etcdrs_backend::{Backend, Batch, Bucket, Scan};
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::MemberId;
use prost::Message as _;

/// What an alarm tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The space quota is used up.
    NoSpace,
    /// Members hold different data.
    Corrupt,
    /// A number that this version does not know, kept as it came.
    Other(i32),
}

impl AlarmKind {
    /// From the wire's number; `None` for NONE.
    #[must_use]
    pub fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::NoSpace),
            2 => Some(Self::Corrupt),
            other => Some(Self::Other(other)),
        }
    }

    /// The wire's number.
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::NoSpace => 1,
            Self::Corrupt => 2,
            Self::Other(number) => number,
        }
    }
}

/// One raised alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member it is about.
    pub member: MemberId,
    /// What it tells.
    pub kind: AlarmKind,
}

impl Alarm {
    fn row(self) -> Vec<u8> {
        pb::AlarmMember { member_id: self.member.0, alarm: self.kind.to_wire() }.encode_to_vec()
    }
}

/// The raised alarms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeSet<Alarm>,
}

impl Alarms {
    pub(crate) fn load(backend: &Backend) -> Result<Self, etcdrs_backend::Error> {
        let mut raised = BTreeSet::new();
        let mut rows = backend.rows(Bucket::Alarm, &Scan::all());
        while let Some((key, _)) = rows.next()? {
            let Ok(member) = pb::AlarmMember::decode(Bytes::copy_from_slice(key)) else { continue };
            if let Some(kind) = AlarmKind::from_wire(member.alarm) {
                raised.insert(Alarm { member: MemberId(member.member_id), kind });
            }
        }
        Ok(Self { raised })
    }

    pub(crate) fn any(&self, kind: AlarmKind) -> bool {
        self.raised.iter().any(|alarm| alarm.kind == kind)
    }

    pub(crate) fn list(&self) -> Vec<Alarm> {
        self.raised.iter().copied().collect()
    }

    /// Applies one request (AL-07): GET lists, ACTIVATE raises, DEACTIVATE clears an exact match.
    pub(crate) fn apply(&mut self, batch: &mut Batch, request: &pb::AlarmRequest) -> Vec<Alarm> {
        use pb::alarm_request::AlarmAction;
        let kind = AlarmKind::from_wire(request.alarm);
        let member = MemberId(request.member_id);
        match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Get), None) => self.list(),
            (Ok(AlarmAction::Get), Some(kind)) => {
                self.raised.iter().filter(|alarm| alarm.kind == kind).copied().collect()
            }
            (Ok(AlarmAction::Activate), Some(kind)) => {
                let alarm = Alarm { member, kind };
                if self.raised.insert(alarm) {
                    batch.put(Bucket::Alarm, &alarm.row(), b"");
                }
                vec![alarm]
            }
            (Ok(AlarmAction::Deactivate), Some(kind)) => {
                let alarm = Alarm { member, kind };
                if !self.raised.remove(&alarm) {
                    return Vec::new();
                }
                batch.delete(Bucket::Alarm, &alarm.row());
                vec![alarm]
            }
            _ => Vec::new(),
        }
    }
}
