//! Answers in the formats of `--write-out` (ctl.md §1.5).

mod fields;
mod json;
mod protobuf;
mod simple;
mod table;

use std::io::Write;
use std::time::Duration;

use etcdrs_client::pb;

use crate::failure::Failure;
pub(crate) use crate::print::json::json_string;

/// A value of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people and scripts.
    Simple,
    /// One line of JSON.
    Json,
    /// `"Name" : value` lines.
    Fields,
    /// A box of text; only some commands have one.
    Table,
    /// The RPC's answer as it came.
    Protobuf,
}

impl Format {
    /// Reads the flag.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "json" => Self::Json,
            "fields" => Self::Fields,
            "table" => Self::Table,
            "protobuf" => Self::Protobuf,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Json => "json",
            Self::Fields => "fields",
            Self::Table => "table",
            Self::Protobuf => "protobuf",
        }
    }
}

/// What one endpoint's health check found.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    pub(crate) took: Duration,
    /// Empty if healthy.
    pub(crate) error: String,
}

/// What a command has to say.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Put(&'a pb::PutResponse),
    Get { response: &'a pb::RangeResponse, values_only: bool },
    Delete(&'a pb::DeleteRangeResponse),
    Txn(&'a pb::TxnResponse),
    Watch(&'a pb::WatchResponse),
    Grant(&'a pb::LeaseGrantResponse),
    Revoke { id: i64, response: &'a pb::LeaseRevokeResponse },
    TimeToLive { response: &'a pb::LeaseTimeToLiveResponse, keys: bool },
    KeepAlive(&'a pb::LeaseKeepAliveResponse),
    Leases(&'a pb::LeaseLeasesResponse),
    MemberList(&'a pb::MemberListResponse),
    MemberAdd { name: &'a str, response: &'a pb::MemberAddResponse },
    MemberRemove { id: u64, response: &'a pb::MemberRemoveResponse },
    MemberUpdate { id: u64, response: &'a pb::MemberUpdateResponse },
    MemberPromote { id: u64, response: &'a pb::MemberPromoteResponse },
    Health(&'a [Health]),
    Status(&'a [(String, pb::StatusResponse)]),
    HashKv(&'a [(String, pb::HashKvResponse)]),
    Alarms(&'a pb::AlarmResponse),
    MoveLeader { from: u64, to: u64, response: &'a pb::MoveLeaderResponse },
}

/// What goes to the two outputs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl From<Vec<u8>> for Rendered {
    fn from(out: Vec<u8>) -> Self {
        Self { out, err: Vec::new() }
    }
}

impl From<String> for Rendered {
    fn from(out: String) -> Self {
        out.into_bytes().into()
    }
}

/// Prints answers in the format of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
    hex: bool,
}

impl Printer {
    pub(crate) fn new(format: Format, hex: bool) -> Self {
        Self { format, hex }
    }

    /// The format of the run.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The answer in the format of the run; `None` if it has no form in it.
    fn render(&self, answer: &Answer<'_>) -> Option<Rendered> {
        match self.format {
            Format::Simple => Some(simple::render(answer, self.hex)),
            Format::Json => Some(json::render(answer, self.hex).into()),
            Format::Fields => fields::render(answer, self.hex).map(Rendered::from),
            Format::Table => table::render(answer).map(Rendered::from),
            Format::Protobuf => protobuf::render(answer).map(Rendered::from),
        }
    }

    /// Prints an answer.
    pub(crate) fn show(&self, answer: &Answer<'_>) -> Result<(), Failure> {
        let rendered = self.render(answer).ok_or_else(|| {
            Failure::bad_feature(format!("{} not supported as output format", self.format.name()))
        })?;
        if !rendered.err.is_empty() {
            std::io::stderr().lock().write_all(&rendered.err)?;
        }
        write_out(&rendered.out)
    }

    /// Prints a line whatever the format is.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        write_out(format!("{text}\n").as_bytes())
    }
}

/// Writes to standard output at once: whoever reads a watch wants it now.
fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// The cells of the commands that have a table; `simple` prints them with commas between.
fn rows(answer: &Answer<'_>) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
    match answer {
        Answer::MemberList(response) => Some((
            &["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"],
            response.members.iter().map(member_row).collect(),
        )),
        Answer::Health(checks) => Some((
            &["endpoint", "health", "took", "error"],
            checks
                .iter()
                .map(|check| {
                    let took = crate::go::format_duration(check.took);
                    let (endpoint, error) = (check.endpoint.clone(), check.error.clone());
                    vec![endpoint, check.healthy.to_string(), took, error]
                })
                .collect(),
        )),
        Answer::Status(all) => Some((
            STATUS_COLUMNS,
            all.iter().map(|(name, status)| status_row(name, status)).collect(),
        )),
        Answer::HashKv(all) => Some((
            &["endpoint", "hash", "hash_revision"],
            all.iter()
                .map(|(endpoint, answer)| {
                    let hash_revision = answer.hash_revision.to_string();
                    vec![endpoint.clone(), answer.hash.to_string(), hash_revision]
                })
                .collect(),
        )),
        _ => None,
    }
}

fn member_row(member: &pb::Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

const STATUS_COLUMNS: &[&str] = &[
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

fn status_row(endpoint: &str, status: &pb::StatusResponse) -> Vec<String> {
    let size = |bytes: i64| crate::go::bytes_si(bytes.try_into().unwrap_or(0));
    let member = status.header.as_ref().map_or(0, |header| header.member_id);
    let in_use = match status.db_size {
        0 => 100,
        all => status.db_size_in_use * 100 / all,
    };
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        size(status.db_size),
        size(status.db_size_in_use),
        format!("{}%", 100 - in_use),
        size(status.db_size_quota),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// The name of an alarm, or its number if we do not know it.
fn alarm_name(alarm: i32) -> String {
    pb::AlarmType::try_from(alarm)
        .map_or_else(|_| alarm.to_string(), |a| a.as_str_name().to_owned())
}

#[cfg(test)]
mod tests;
