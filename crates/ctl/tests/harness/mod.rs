//! Two servers and two tools side by side.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// One command line for both tools and what to overlook in what they say.
pub(crate) struct Case<'a> {
    pub(crate) line: &'a str,
    pub(crate) stdin: &'a str,
    /// Applied to our output before comparing.
    pub(crate) ours: fn(&str) -> String,
    /// Applied to etcdctl's.
    pub(crate) theirs: fn(&str) -> String,
}

impl Case<'_> {
    /// With both ways of overlooking.
    pub(crate) fn with(self, ours: fn(&str) -> String, theirs: fn(&str) -> String) -> Self {
        Self { ours, theirs, ..self }
    }
}

/// What a tool did.
#[derive(PartialEq, Eq)]
struct Outcome {
    out: String,
    err: String,
    code: Option<i32>,
}

/// A tool with its own server.
struct Side {
    tool: PathBuf,
    server: Child,
    dir: TempDir,
    endpoint: String,
    member: String,
    lease: String,
    /// What differs from server to server, and a name for it.
    names: Vec<(Vec<u8>, &'static str)>,
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Both sides, ours first, and what did not agree so far.
pub(crate) struct Pair {
    sides: [Side; 2],
    mismatches: Vec<String>,
}

/// How long any command may take.
const COMMAND_SECONDS_MAX: &str = "20";

/// Where a peer would find the servers; a single member has none.
const PEER_URL: &str = "http://127.0.0.1:2380";

fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Side {
    fn start(tool: PathBuf, server: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let (client, peer) = (free_port(), free_port());
        let [client_url, peer_url] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let server = Command::new(server)
            .args(["--name", "m1", "--log-level", "error", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            // Ids are hashes of this one, so that those of both sides are alike.
            .args(["--initial-advertise-peer-urls", PEER_URL])
            .arg(format!("--initial-cluster=m1={PEER_URL}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut side = Self {
            tool,
            server,
            endpoint: format!("127.0.0.1:{client}"),
            member: String::new(),
            lease: String::new(),
            names: vec![
                (client.to_string().into(), "CLIENT"),
                (dir.path().display().to_string().into(), "DIR"),
            ],
            dir,
        };
        side.learn_ids();
        side
    }

    /// Waits for the server, which our tool does by itself, and asks who it is.
    fn learn_ids(&mut self) {
        let ours = env!("CARGO_BIN_EXE_etcdctl-rs");
        let output = Command::new(ours)
            .args(["--command-timeout", "60s", "--endpoints", &self.endpoint])
            .args(["endpoint", "status", "-w", "json"])
            .output()
            .unwrap();
        let json = String::from_utf8(output.stdout).unwrap();
        let number = |name: &str| -> u64 {
            let from = json.find(name).expect("the server has answered") + name.len();
            let digits: String = json[from..].chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        for (name, placeholder) in [("cluster_id\":", "CLUSTER"), ("member_id\":", "MEMBER")] {
            let id = number(name);
            self.name(id, placeholder);
            if placeholder == "MEMBER" {
                self.member = format!("{id:x}");
            }
        }
    }

    fn words(&self, line: &str) -> Vec<String> {
        line.split(' ')
            .map(|word| {
                word.replace("{lease}", &self.lease)
                    .replace("{member}", &self.member)
                    .replace("{dir}", &self.dir.path().display().to_string())
            })
            .collect()
    }

    fn spawn(&self, words: &[String], stdin: &str) -> Child {
        // A command that does not end where it should shows up by its exit code, 124.
        let mut command = Command::new("timeout");
        command.args(["-k", "1", COMMAND_SECONDS_MAX]).arg(&self.tool);
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("ETCD")) {
            command.env_remove(name);
        }
        if !words.iter().any(|word| word == "--endpoints") {
            command.args(["--endpoints", &self.endpoint]);
        }
        let mut child = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A tool may refuse its arguments before it reads anything.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child
    }

    /// Gives an id a name, in hex, decimal and as protobuf has it.
    fn name(&mut self, id: u64, name: &'static str) {
        let (mut varint, mut rest) = (Vec::new(), id);
        while rest > 0x7f {
            varint.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        varint.push(rest as u8);
        for form in [format!("{id:x}").into(), id.to_string().into(), varint] {
            self.names.push((form, name));
        }
    }

    /// Text with everything replaced that is peculiar to this side.
    fn neutral(&self, bytes: &[u8]) -> String {
        let mut neutral = Vec::new();
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let special = self.names.iter().find(|(special, _)| rest.starts_with(special));
            let length = match special {
                Some((special, name)) => {
                    neutral.extend_from_slice(name.as_bytes());
                    special.len()
                }
                None => {
                    neutral.push(byte);
                    1
                }
            };
            rest = &rest[length..];
        }
        String::from_utf8_lossy(&neutral).into_owned()
    }

    fn run(&self, words: &[String], stdin: &str) -> Outcome {
        let Output { status, stdout, stderr } =
            self.spawn(words, stdin).wait_with_output().unwrap();
        // Lines of JSON are logs.
        let err = self.neutral(&stderr);
        let err = err.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n"));
        let out = without_sizes(&self.neutral(&stdout));
        Outcome { out, err: err.collect(), code: status.code() }
    }

    /// The first lines of a command that would go on; it is stopped then.
    fn first_lines(&self, words: &[String], count: usize) -> String {
        let mut child = self.spawn(words, "");
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut bytes = Vec::new();
        for line in out.split(b'\n').take(count) {
            bytes.extend(line.unwrap());
            bytes.push(b'\n');
        }
        // Asked politely, because `timeout` passes this on to the tool.
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let mut err = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut err);
        let _ = child.wait();
        self.neutral(&bytes)
    }
}

/// The text with the sizes of databases replaced: two servers that did the same need not have
/// files of the same size.
fn without_sizes(text: &str) -> String {
    const MARKS: [&str; 4] =
        ["\"dbSize\":", "\"dbSizeInUse\":", "\"DBSize\" : ", "\"DBSizeInUse\" : "];
    let mut text = text.to_owned();
    for mark in MARKS {
        let parts: Vec<String> = text
            .split(mark)
            .enumerate()
            .map(|(at, part)| match at {
                0 => part.to_owned(),
                _ => format!("SIZE{}", part.trim_start_matches(|c: char| c.is_ascii_digit())),
            })
            .collect();
        text = parts.join(mark);
    }
    let is_size = |field: &str| {
        let number = field.strip_suffix(" kB").or_else(|| field.strip_suffix(" B"));
        number.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let fields = text.split(", ").map(|field| if is_size(field) { "SIZE" } else { field });
    fields.collect::<Vec<_>>().join(", ")
}

impl Pair {
    /// Starts both servers; `None`, with a line that says so, where the programs are missing.
    pub(crate) fn start() -> Option<Self> {
        let (server, tool) = (find("ETCD_BIN", "etcd"), find("ETCDCTL_BIN", "etcdctl"));
        let (Some(server), Some(tool)) = (server, tool) else {
            println!("skipped: no etcd and etcdctl in PATH, ETCD_BIN, ETCDCTL_BIN");
            return None;
        };
        let ours = env!("CARGO_BIN_EXE_etcdctl-rs").into();
        let sides = [Side::start(ours, &server), Side::start(tool, &server)];
        Some(Self { sides, mismatches: Vec::new() })
    }

    /// A directory of each side for its files.
    pub(crate) fn dirs(&self) -> [PathBuf; 2] {
        [0, 1].map(|side| self.sides[side].dir.path().to_owned())
    }

    /// Runs a case on both sides.
    pub(crate) fn check(&mut self, case: &Case<'_>) {
        let [mut ours, mut theirs] =
            [0, 1].map(|side| self.sides[side].run(&self.sides[side].words(case.line), case.stdin));
        (ours.out, theirs.out) = ((case.ours)(&ours.out), (case.theirs)(&theirs.out));
        (ours.err, theirs.err) = ((case.ours)(&ours.err), (case.theirs)(&theirs.err));
        self.compare(case.line, &ours, &theirs);
    }

    /// Runs a case on both sides and compares what standard error and the exit code say.
    pub(crate) fn check_errors(&mut self, case: &Case<'_>) {
        let outcomes = [0, 1].map(|side| {
            let mut outcome = self.sides[side].run(&self.sides[side].words(case.line), case.stdin);
            outcome.out.clear();
            outcome.err = (if side == 0 { case.ours } else { case.theirs })(&outcome.err);
            outcome
        });
        self.compare(case.line, &outcomes[0], &outcomes[1]);
    }

    /// Compares the first lines of commands that do not end.
    pub(crate) fn check_first_lines(&mut self, line: &str, count: usize, ours: fn(&str) -> String) {
        let outcomes = [0, 1].map(|side| {
            let side = &self.sides[side];
            side.first_lines(&side.words(line), count)
        });
        self.compare_lines(line, outcomes, ours);
    }

    /// The same for words that contain spaces.
    pub(crate) fn check_first_words(
        &mut self,
        words: &[&str],
        count: usize,
        ours: fn(&str) -> String,
    ) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let outcomes = [0, 1].map(|side| self.sides[side].first_lines(&words, count));
        self.compare_lines(&words.join(" "), outcomes, ours);
    }

    fn compare_lines(&mut self, line: &str, outcomes: [String; 2], overlook: fn(&str) -> String) {
        let outcome = |out: String| Outcome { out, err: String::new(), code: None };
        let [ours, theirs] = outcomes;
        self.compare(line, &outcome(overlook(&ours)), &outcome(theirs));
    }

    fn compare(&mut self, line: &str, ours: &Outcome, theirs: &Outcome) {
        if ours == theirs {
            return;
        }
        let show = |who: &str, outcome: &Outcome| {
            format!("-- {who} (code {:?})\n{}{}", outcome.code, outcome.out, outcome.err)
        };
        let (ours, theirs) = (show("ours", ours), show("theirs", theirs));
        self.mismatches.push(format!("$ {line}\n{ours}\n{theirs}"));
    }

    /// Grants a lease on both sides, which get ids of their own.
    pub(crate) fn grant(&mut self) {
        for side in &mut self.sides {
            let outcome = side.run(&side.words("lease grant 1000"), "");
            let id = outcome.out.split(' ').nth(1).expect("a lease was granted").to_owned();
            let number = u64::from_str_radix(&id, 16).unwrap();
            side.name(number, "LEASE");
            side.lease = id;
        }
    }
}

impl Drop for Pair {
    /// Fails with everything that did not agree, all at once.
    fn drop(&mut self) {
        let mismatches = std::mem::take(&mut self.mismatches);
        if !std::thread::panicking() {
            assert!(mismatches.is_empty(), "\n{}", mismatches.join("\n\n"));
        }
    }
}
