//! Checks of a request before it goes anywhere. Pure; order and texts as etcd's.

use etcdrs_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use tonic::Status;

use crate::api::status;

/// RG-01, KR-04.
pub(crate) fn range(request: &pb::RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(status::empty_key());
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(status::invalid_sort_option());
    }
    Ok(())
}

/// PD-01.
pub(crate) fn put(request: &pb::PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return Err(status::empty_key());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::value_provided());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::lease_provided());
    }
    Ok(())
}

pub(crate) fn delete(request: &pb::DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() { Err(status::empty_key()) } else { Ok(()) }
}

/// RS-01: what RangeStream refuses beyond Range.
pub(crate) fn range_stream(request: &pb::RangeRequest) -> Result<(), Status> {
    range(request)?;
    let order = SortOrder::try_from(request.sort_order);
    let by_key = SortTarget::try_from(request.sort_target) == Ok(SortTarget::Key);
    if order != Ok(SortOrder::None) && !(by_key && order == Ok(SortOrder::Ascend)) {
        return Err(status::custom_sort());
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(status::revision_filters());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn text<T>(result: Result<T, Status>) -> String {
        result.err().map_or("ok".into(), |status| status.message().to_owned())
    }

    #[test]
    fn kr_04_pd_01_rg_01_refusals() {
        let put_with = |value: &'static str, lease, ignore_value, ignore_lease| {
            let request = pb::PutRequest {
                key: "k".into(),
                value: value.into(),
                lease,
                ignore_value,
                ignore_lease,
                ..Default::default()
            };
            text(put(&request))
        };
        assert_eq!(put_with("v", 0, true, false), "etcdserver: value is provided");
        assert_eq!(put_with("", 7, false, true), "etcdserver: lease is provided");
        assert_eq!(put_with("", 0, true, true), "ok");
        assert_eq!(text(put(&pb::PutRequest::default())), "etcdserver: key is not provided");
        let sorted = pb::RangeRequest { key: "k".into(), sort_target: 9, ..Default::default() };
        assert_eq!(text(range(&sorted)), "etcdserver: invalid sort option");
    }

    #[test]
    fn rs_01_streams_refuse_sorting_and_filters() {
        let base = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let ascending = pb::RangeRequest { sort_order: 1, ..base.clone() };
        assert_eq!(text(range_stream(&ascending)), "ok");
        let by_mod = pb::RangeRequest { sort_order: 1, sort_target: 3, ..base.clone() };
        assert!(text(range_stream(&by_mod)).contains("custom sort orders"));
        let filtered = pb::RangeRequest { max_mod_revision: 3, ..base };
        assert!(text(range_stream(&filtered)).contains("revision filters"));
    }
}
