//! Counts of gRPC calls, by method and code, without a lock or a look-up on the way.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use etcdrs_proto::METHODS;
use tonic::Code;

/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

const CODE_NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[derive(Default)]
struct Method {
    started: AtomicU64,
    handled: [AtomicU64; CODES],
}

/// Counters for each of [`METHODS`], by position.
pub(crate) struct Rpcs(Vec<Method>);

impl Rpcs {
    pub(super) fn new() -> Self {
        Self(METHODS.iter().map(|_| Method::default()).collect())
    }

    pub(crate) fn started(&self, method: usize) {
        self.0[method].started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handled(&self, method: usize, code: Code) {
        self.0[method].handled[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write(&self, text: &mut String) {
        text.push_str(
            "# HELP grpc_server_started_total Total number of RPCs started on the server.\n",
        );
        text.push_str("# TYPE grpc_server_started_total counter\n");
        for (method, counts) in METHODS.iter().zip(&self.0) {
            let labels = labels(method);
            let count = counts.started.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "grpc_server_started_total{{{labels}}} {count}");
        }
        text.push_str("# HELP grpc_server_handled_total Total number of RPCs completed on the server, regardless of success or failure.\n");
        text.push_str("# TYPE grpc_server_handled_total counter\n");
        for (method, counts) in METHODS.iter().zip(&self.0) {
            let labels = labels(method);
            for (code, count) in CODE_NAMES.iter().zip(&counts.handled) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 || *code == "OK" {
                    let _ = writeln!(
                        text,
                        "grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}} {count}"
                    );
                }
            }
        }
    }
}

fn labels(method: &etcdrs_proto::Method) -> String {
    let kind = match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (false, true) => "server_stream",
        (true, false) => "client_stream",
        (true, true) => "bidi_stream",
    };
    format!(
        "grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{kind}\"",
        method.name, method.service
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let rpcs = Rpcs::new();
        let range = METHODS.iter().position(|method| method.name == "Range").expect("Range exists");
        rpcs.started(range);
        rpcs.handled(range, Code::OutOfRange);
        let mut text = String::new();
        rpcs.write(&mut text);
        let range = r#"grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        assert!(text.contains(&format!("grpc_server_started_total{{{range}}} 1")));
        let handled = format!(r#"grpc_server_handled_total{{grpc_code="OutOfRange",{range}}} 1"#);
        assert!(text.contains(&handled));
    }
}
