//! What happened, as one number: two runs of a seed must have the same.

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// A file to write every line to.
const VARIABLE: &str = "ETCD_RS_TEST_TRACE";

#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<State>>);

struct State {
    begin: Instant,
    hash: u64,
    lines: u64,
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let file = std::env::var_os(VARIABLE)
            .map(|path| std::io::BufWriter::new(std::fs::File::create(path).unwrap()));
        let state = State { begin: Instant::now(), hash: 0xcbf2_9ce4_8422_2325, lines: 0, file };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Virtual time since the begin.
    pub(crate) fn now(&self) -> u64 {
        let begin = self.0.lock().unwrap().begin;
        u64::try_from(begin.elapsed().as_nanos()).unwrap()
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.0.lock().unwrap();
        let line = format!("{:>12} {what}\n", state.begin.elapsed().as_micros());
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state.lines += 1;
        if let Some(file) = &mut state.file {
            file.write_all(line.as_bytes()).unwrap();
        }
    }

    /// The number, and how many lines it stands for.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap();
        (state.hash, state.lines)
    }
}
