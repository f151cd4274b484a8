//! txn: three lists of lines from standard input (ctl.md §3.2).

use std::io::BufRead;

use etcdrs_client::pb;
use etcdrs_client::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcdrs_client::pb::request_op::Request;

use crate::argify::argify;
use crate::cli::{Global, TxnArgs, TxnLine, TxnOp, parse_line};
use crate::commands::kv;
use crate::failure::Failure;
use crate::go;
use crate::print::Answer;
use crate::session::Session;

pub(super) async fn run(global: Global, args: TxnArgs) -> Result<(), Failure> {
    if !args.args.is_empty() {
        return Err(Failure::bad_args("txn command does not accept argument"));
    }
    let prompt = |text: &str| {
        if args.interactive {
            println!("{text}");
        }
    };
    let mut request = pb::TxnRequest::default();
    prompt("compares:");
    while let Some(line) = read_line()? {
        request.compare.push(compare(&line)?);
    }
    prompt("success requests (get, put, del):");
    while let Some(line) = read_line()? {
        request.success.push(op(&line).await?);
    }
    prompt("failure requests (get, put, del):");
    while let Some(line) = read_line()? {
        request.failure.push(op(&line).await?);
    }
    let session = Session::new(global).await?;
    let response = session.patient_client().await?.txn(request).await?;
    session.printer.show(&Answer::Txn(&response))
}

/// The next line, trimmed; `None` for an empty one, which ends a list. A list that is not ended
/// is an error, the last one included.
fn read_line() -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    std::io::stdin().lock().read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(Failure::invalid_input("EOF"));
    }
    let line = line.trim_ascii().to_vec();
    Ok(if line.is_empty() { None } else { Some(line) })
}

fn lossy(line: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(line)
}

/// Reads `target("key") op "value"`.
fn compare(line: &[u8]) -> Result<pb::Compare, Failure> {
    let malformed =
        |why: &str| Failure::invalid_input(format!("malformed comparison: {}{why}", lossy(line)));
    let Some(open) = line.iter().position(|&byte| byte == b'(') else {
        return Err(malformed(""));
    };
    let target = lossy(&line[..open]);
    let Operands { key, op, value, complete } = operands(&line[open + 1..]);
    if !complete {
        let (key, value) = (go::quote(&key), go::quote(&value));
        return Err(malformed(&format!("; got {target}({key}) {} {value}", lossy(&op))));
    }
    let result = match &op[..] {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        _ => return Err(Failure::bad_connection("Unknown result op")),
    };
    let number = |radix| {
        go::parse_int(&lossy(&value), radix).map_err(|_| {
            Failure::invalid_input(format!("invalid txn compare request: {}", lossy(line)))
        })
    };
    let (target, union) = match &*target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        _ => return Err(malformed(&format!(" (unknown target {target})"))),
    };
    Ok(pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(union),
        ..Default::default()
    })
}

/// What was read of `"key") op "value"`; parts behind the first malformed one stay empty.
#[derive(Default)]
struct Operands {
    key: Vec<u8>,
    op: Vec<u8>,
    value: Vec<u8>,
    complete: bool,
}

fn operands(text: &[u8]) -> Operands {
    let mut read = Operands::default();
    let mut parts = || {
        let (key, rest) = literal(text)?;
        read.key = key;
        let rest = rest.strip_prefix(b")").filter(|rest| rest.starts_with(b" "))?;
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        read.op = rest[..end].to_vec();
        let (value, _) = literal(&rest[end..])?;
        read.value = value;
        Some(())
    };
    read.complete = parts().is_some();
    read
}

/// A Go string literal, in double quotes or back quotes, and what is behind it.
fn literal(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let text = text.trim_ascii_start();
    if let Some(raw) = text.strip_prefix(b"`") {
        let end = raw.iter().position(|&byte| byte == b'`')?;
        return Some((raw[..end].to_vec(), &raw[end + 1..]));
    }
    let mut end = 1;
    loop {
        match text.get(end)? {
            b'"' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    Some((go::unquote(&text[..=end])?, &text[end + 1..]))
}

/// Reads one operation: a get, put or del with its flags.
async fn op(line: &[u8]) -> Result<pb::RequestOp, Failure> {
    let words = argify(line)?;
    if words.len() < 2 {
        let message = format!("invalid txn compare request: {}", lossy(line));
        return Err(Failure::invalid_input(message));
    }
    let invalid = || Failure::invalid_input(format!("invalid txn request: {}", lossy(line)));
    let parsed: TxnLine = parse_line(&words).ok_or_else(invalid)?;
    let request = match parsed.op {
        TxnOp::Get(args) => Request::RequestRange(kv::get_request(&args)?),
        // What is left of the input is the rest of the transaction and no value.
        TxnOp::Put(args) => Request::RequestPut(kv::put_request(args, || Ok(Vec::new()))?),
        TxnOp::Del(args) => {
            let request = kv::del_request(&args)?;
            kv::warn_of_range(&args).await;
            Request::RequestDeleteRange(request)
        }
    };
    Ok(pb::RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(line: &str, message: &str) {
        assert_eq!(compare(line.as_bytes()).unwrap_err().message(), message);
    }

    #[test]
    fn compares_are_read() {
        let read = compare(br#"mod("t\x31") > "7""#).expect("well formed");
        assert_eq!((&read.key[..], read.result()), (&b"t1"[..], CompareResult::Greater));
        assert_eq!(read.target_union, Some(TargetUnion::ModRevision(7)));
        let read = compare(br#"val("a b") != "c )""#).expect("well formed");
        assert_eq!(read.target_union, Some(TargetUnion::Value("c )".into())));
        let read = compare(br#"lease("a") = "1f""#).expect("well formed");
        assert_eq!(read.target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn malformed_compares_are_refused_in_etcdctls_words() {
        refused("bogus", "malformed comparison: bogus");
        refused(r#"mod("t1") > 0"#, r#"malformed comparison: mod("t1") > 0; got mod("t1") > """#);
        refused(
            r#"foo("t1") > "0""#,
            r#"malformed comparison: foo("t1") > "0" (unknown target foo)"#,
        );
        refused(r#"mod("t1") > "x""#, r#"invalid txn compare request: mod("t1") > "x""#);
    }
}
