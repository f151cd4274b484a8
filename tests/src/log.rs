//! The output of a server process, readable while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

/// Lines a process wrote to its standard output and error, in order of arrival.
#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    open_pipes: usize,
}

impl Log {
    /// Follows `pipe` on a thread until it is closed, which happens when the process ends.
    pub fn follow(&self, pipe: impl Read + Send + 'static) {
        self.shared.state.lock().unwrap().open_pipes += 1;
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.state.lock().unwrap().lines.push(text);
                shared.changed.notify_waiters();
                line.clear();
            }
            shared.state.lock().unwrap().open_pipes -= 1;
            shared.changed.notify_waiters();
        });
    }

    /// Waits until a line contains one of `needles`; false if the output ended first or `limit`
    /// passed.
    pub async fn wait_for(&self, needles: &[&str], limit: Duration) -> bool {
        let found = self.wait_until(limit, |state| {
            let seen =
                state.lines.iter().any(|line| needles.iter().any(|needle| line.contains(needle)));
            (seen || state.open_pipes == 0).then_some(seen)
        });
        found.await.unwrap_or(false)
    }

    /// Waits until the process closed its output; false if `limit` passed first.
    pub async fn wait_closed(&self, limit: Duration) -> bool {
        self.wait_until(limit, |state| (state.open_pipes == 0).then_some(())).await.is_some()
    }

    async fn wait_until<T>(
        &self,
        limit: Duration,
        check: impl Fn(&State) -> Option<T>,
    ) -> Option<T> {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if let Some(value) = check(&self.shared.state.lock().unwrap()) {
                    return value;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok()
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.shared.state.lock().unwrap().lines.join("\n")
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let state = self.shared.state.lock().unwrap();
        state.lines[state.lines.len().saturating_sub(count)..].join("\n")
    }

    /// The first line that tells of a panic, ours (Rust) or etcd's (Go).
    pub fn panic_line(&self) -> Option<String> {
        const SIGNS: [&str; 3] = ["panicked at", "panic: ", "\"level\":\"panic\""];
        let state = self.shared.state.lock().unwrap();
        state.lines.iter().find(|line| SIGNS.iter().any(|sign| line.contains(sign))).cloned()
    }
}
