//! `-w protobuf`: the RPC's answer as it is on the wire. Of lease commands only the header, which
//! is an oddity of etcdctl that we keep.

use prost::Message;

use crate::print::Answer;

pub(super) fn render(answer: &Answer<'_>) -> Option<Vec<u8>> {
    Some(match answer {
        Answer::Put(response) => response.encode_to_vec(),
        Answer::Get { response, .. } => response.encode_to_vec(),
        Answer::Delete(response) => response.encode_to_vec(),
        Answer::Txn(response) => response.encode_to_vec(),
        Answer::Watch(response) => response.encode_to_vec(),
        Answer::Grant(response) => header(response.header.as_ref()),
        Answer::TimeToLive { response, .. } => header(response.header.as_ref()),
        Answer::KeepAlive(response) => header(response.header.as_ref()),
        Answer::Leases(response) => header(response.header.as_ref()),
        Answer::MemberList(response) => response.encode_to_vec(),
        Answer::MemberAdd { response, .. } => response.encode_to_vec(),
        Answer::MemberRemove { response, .. } => response.encode_to_vec(),
        Answer::MemberUpdate { response, .. } => response.encode_to_vec(),
        Answer::MemberPromote { response, .. } => response.encode_to_vec(),
        Answer::Alarms(response) => response.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Revoke { .. } | Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => {
            return None;
        }
    })
}

fn header(header: Option<&etcdrs_client::pb::ResponseHeader>) -> Vec<u8> {
    header.map(Message::encode_to_vec).unwrap_or_default()
}
