//! put, get, del.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_client::pb;
use etcdrs_client::pb::range_request::{SortOrder, SortTarget};
use etcdrs_types::prefix_end;

use crate::cli::{DelArgs, GetArgs, Global, PutArgs};
use crate::commands::bytes;
use crate::failure::Failure;
use crate::go;
use crate::print::{Answer, Format};
use crate::session::Session;

/// How long a delete of a range can be interrupted, unless `--range` says it is meant.
const RANGE_DELETE_DELAY: Duration = Duration::from_secs(2);

pub(super) async fn put(global: Global, args: PutArgs) -> Result<(), Failure> {
    let request = put_request(args, read_stdin)?;
    let session = Session::new(global).await?;
    let response = session.client().await?.put(request).await?;
    session.printer.show(&Answer::Put(&response))
}

/// All of standard input.
fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value)?;
    Ok(value)
}

/// The request of a put; `rest` gives a value that is not among the words.
pub(super) fn put_request(
    args: PutArgs,
    rest: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> Result<pb::PutRequest, Failure> {
    const USAGE: &str = "put command needs 1 argument and input from stdin or 2 arguments";
    let Some(key) = args.args.first() else { return Err(Failure::bad_args(USAGE)) };
    if args.ignore_value && args.args.len() > 1 {
        let message = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Failure::bad_args(message));
    }
    let value = match args.args.get(1) {
        _ if args.ignore_value => Bytes::new(),
        Some(value) => bytes(value),
        None => {
            let value = rest()?;
            if value.is_empty() {
                return Err(Failure::bad_args(USAGE));
            }
            value.into()
        }
    };
    let lease = go::parse_int(&args.lease, 16)
        .map_err(|why| Failure::bad_args(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: bytes(key),
        value,
        lease,
        prev_kv: args.prev_kv,
        ignore_value: args.ignore_value,
        ignore_lease: args.ignore_lease,
    })
}

pub(super) async fn get(global: Global, args: GetArgs) -> Result<(), Failure> {
    let (request, stream, values_only) = (get_request(&args)?, args.stream, args.print_value_only);
    let session = Session::new(global).await?;
    let client = session.client().await?;
    let response =
        if stream { client.get_in_pieces(request).await? } else { client.get(request).await? };
    // etcdctl finds out only now as well.
    if args.count_only && session.printer.format() != Format::Fields {
        return Err(Failure::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if values_only && session.printer.format() != Format::Simple {
        return Err(Failure::bad_args("print-value-only is only for `--write-out=simple`"));
    }
    session.printer.show(&Answer::Get { response: &response, values_only })
}

/// The request of a get.
pub(super) fn get_request(args: &GetArgs) -> Result<pb::RangeRequest, Failure> {
    let Some(key) = args.args.first() else {
        return Err(Failure::bad_args(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    if args.prefix && args.from_key {
        return Err(Failure::bad_args(BOTH));
    }
    if args.keys_only && args.count_only {
        return Err(Failure::bad_args(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let serializable = match args.consistency.as_str() {
        "s" => true,
        "l" => false,
        other => {
            return Err(Failure::bad_feature(format!("unknown consistency flag {other:?}")));
        }
    };
    let (key, range_end) =
        range(bytes(key), args.args.get(1).map(|end| bytes(end)), args.prefix, args.from_key)?;
    let (sort_order, sort_target) = sort(&args.order, &args.sort_by)?;
    bounds("CreateRev", args.min_create_rev, args.max_create_rev)?;
    bounds("ModRev", args.min_mod_rev, args.max_mod_rev)?;
    Ok(pb::RangeRequest {
        key,
        range_end,
        limit: args.limit,
        revision: args.rev,
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: args.keys_only,
        count_only: args.count_only,
        min_mod_revision: args.min_mod_rev,
        max_mod_revision: args.max_mod_rev,
        min_create_revision: args.min_create_rev,
        max_create_revision: args.max_create_rev,
    })
}

const BOTH: &str = "`--prefix` and `--from-key` cannot be set at the same time, choose one";

/// Key and end on the wire.
fn range(
    key: Bytes,
    end: Option<Bytes>,
    prefix: bool,
    from_key: bool,
) -> Result<(Bytes, Bytes), Failure> {
    if end.is_some() && (prefix || from_key) {
        return Err(Failure::bad_args(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    let all = Bytes::from_static(&[0]);
    Ok(match end {
        // An empty key stands for the beginning of all keys.
        None if (prefix || from_key) && key.is_empty() => (all.clone(), all),
        None if prefix => {
            let end = prefix_end(&key);
            (key, end)
        }
        None if from_key => (key, all),
        end => (key, end.unwrap_or_default()),
    })
}

fn sort(order: &str, target: &str) -> Result<(SortOrder, SortTarget), Failure> {
    let by = match target.to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::bad_feature(format!("bad sort target {target}"))),
    };
    let order = match order.to_uppercase().as_str() {
        // Keys come in ascending order without sorting.
        "ASCEND" if by == SortTarget::Key => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => return Err(Failure::bad_feature(format!("bad sort order {order}"))),
    };
    Ok((order, by))
}

fn bounds(name: &str, min: i64, max: i64) -> Result<(), Failure> {
    if max > 0 && min > max {
        let message = format!("getMin{name}(={min}) > getMax{name}(={max})");
        return Err(Failure::bad_feature(message));
    }
    Ok(())
}

pub(super) async fn del(global: Global, args: DelArgs) -> Result<(), Failure> {
    let request = del_request(&args)?;
    let session = Session::new(global).await?;
    warn_of_range(&args).await;
    let response = session.client().await?.delete(request).await?;
    session.printer.show(&Answer::Delete(&response))
}

/// The request of a del.
pub(super) fn del_request(args: &DelArgs) -> Result<pb::DeleteRangeRequest, Failure> {
    let key = match args.args.as_slice() {
        [key] | [key, _] => bytes(key),
        _ => {
            return Err(Failure::bad_args(
                "del command needs one argument as key and an optional argument as range_end",
            ));
        }
    };
    if args.prefix && args.from_key {
        return Err(Failure::bad_args(BOTH));
    }
    let end = args.args.get(1).map(|end| bytes(end));
    let (key, range_end) = range(key, end, args.prefix, args.from_key)?;
    Ok(pb::DeleteRangeRequest { key, range_end, prev_kv: args.prev_kv })
}

/// Since 3.6: two words may be meant as two keys but delete all between them, so there is time
/// to think.
pub(super) async fn warn_of_range(args: &DelArgs) {
    let [from, to] = args.args.as_slice() else { return };
    if args.range {
        return;
    }
    let (from, to) = (go::quote(&bytes(from)), go::quote(&bytes(to)));
    eprintln!(
        "Warning: Keys between {from} and {to} will be deleted. Please interrupt the command \
         within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
    );
    tokio::time::sleep(RANGE_DELETE_DELAY).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(
        key: &'static str,
        end: Option<&'static str>,
        prefix: bool,
        from: bool,
    ) -> (Bytes, Bytes) {
        range(key.into(), end.map(Bytes::from), prefix, from).expect("the arguments agree")
    }

    #[test]
    fn ranges_of_words_and_flags() {
        assert_eq!(wire("a", None, false, false), ("a".into(), "".into()));
        assert_eq!(wire("a", Some("c"), false, false), ("a".into(), "c".into()));
        assert_eq!(wire("a", None, true, false), ("a".into(), "b".into()));
        assert_eq!(wire("a", None, false, true), ("a".into(), "\0".into()));
        assert_eq!(wire("", None, true, false), ("\0".into(), "\0".into()));
        assert_eq!(wire("", None, false, true), ("\0".into(), "\0".into()));
        assert_eq!(wire("", None, false, false), ("".into(), "".into()));
    }

    #[test]
    fn bounds_that_exclude_everything_are_refused() {
        let failure = bounds("CreateRev", 5, 3).unwrap_err();
        assert_eq!(failure.message(), "getMinCreateRev(=5) > getMaxCreateRev(=3)");
        assert!(bounds("ModRev", 5, 0).is_ok());
    }
}
