//! The command line, after that of etcd's benchmark tool.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use etcdrs_proto::etcdserverpb::{AuthenticateRequest, RangeRequest};
use prost::Message as _;

use crate::clock::now;
use crate::http2::Keep;
use crate::io::Io;
use crate::report::{Recorder, Report};
use crate::run::{self, Plan};
use crate::stall::{self, Operation};
use crate::watch::{self, Watch};
use crate::workload::{self as work, Keys};
use crate::{scan, usage};

/// How long one attempt of `wait` may take, and the pause before the next.
const RETRY_LIMIT: Duration = Duration::from_secs(1);
const RETRY_EVERY: Duration = Duration::from_millis(2);

/// Measures an etcd: latencies, throughput, and what an operation costs the server.
#[derive(Debug, Parser)]
#[command(name = "benchmark-rs", version)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// gRPC endpoints
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// Number of connections
    #[arg(long, global = true, default_value_t = 1)]
    conns: usize,
    /// Number of clients; they share the connections
    #[arg(long, global = true, default_value_t = 1)]
    clients: usize,
    /// Threads of the load generator
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    /// Print full floating point precision
    #[arg(long, global = true)]
    precise: bool,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// name:password of a user
    #[arg(long, global = true)]
    user: Option<String>,
    /// Seconds that connecting may take; 0 for no limit
    #[arg(long, global = true, default_value_t = 0.0)]
    dial_timeout: f64,
    /// Stop after so many seconds even if operations are left; 0 for no limit
    #[arg(long, global = true, default_value_t = 0.0)]
    max_seconds: f64,
    /// Process id of a server on this machine, to measure what it spends; may be repeated
    #[arg(long, global = true, value_delimiter = ',')]
    server_pid: Vec<u32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put keys
    Put {
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Get a key or a range, or single keys out of a key space
    Range {
        /// Key, or start of the range; not with --key-space-size
        key: Option<String>,
        /// End of the range
        end: Option<String>,
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        load: LoadArgs,
        /// Read random keys of those that `put` wrote with this size
        #[arg(long, default_value_t = 8)]
        key_size: usize,
        /// Number of different keys to read; 0 reads the range given
        #[arg(long, default_value_t = 0)]
        key_space_size: u64,
        /// Ask for all keys with the prefix
        #[arg(long)]
        prefix: bool,
    },
    /// Transactions of puts
    TxnPut {
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        load: LoadArgs,
        /// Puts of one transaction
        #[arg(long, default_value_t = 1)]
        txn_ops: u64,
    },
    /// Transactions that read a range or write a key
    TxnMixed {
        /// Key, or start of the range to read
        key: String,
        /// End of the range
        end: Option<String>,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        load: LoadArgs,
        /// Reads per write
        #[arg(long, default_value_t = 1.0)]
        rw_ratio: f64,
        /// l(inearizable) or s(erializable)
        #[arg(long, default_value = "l")]
        consistency: Consistency,
        /// Most keys of a read
        #[arg(long, default_value_t = 1000)]
        limit: i64,
    },
    /// Change objects as kube-apiserver does: get, then a conditional transaction
    Update {
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Load keys in groups below /bench/, for `list` and `stall`
    Fill {
        /// Number of keys
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
        /// Keys of one group
        #[arg(long, default_value_t = 500)]
        per_group: u64,
        /// Bytes of a value
        #[arg(long, default_value_t = 256)]
        val_size: usize,
        /// Puts of one transaction
        #[arg(long, default_value_t = 100)]
        batch: u64,
    },
    /// List what `fill` loaded
    List {
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        load: LoadArgs,
        /// List one random group out of so many; 0 lists across all
        #[arg(long, default_value_t = 0)]
        groups: u64,
        /// Follow the list page by page at the first page's revision; needs --limit
        #[arg(long)]
        pages: bool,
    },
    /// Many watchers receive the same puts
    Watch {
        #[command(flatten)]
        watch: WatchArgs,
        /// Watchers of one stream
        #[arg(long, default_value_t = 100)]
        watch_per_stream: usize,
        /// Puts a second; 0 for as many as possible
        #[arg(long, default_value_t = 0)]
        put_rate: u64,
    },
    /// Time from a put to its event
    WatchLatency {
        #[command(flatten)]
        watch: WatchArgs,
        /// Watchers of one stream
        #[arg(long, default_value_t = 10)]
        watchers_per_stream: usize,
        /// Puts a second
        #[arg(long, default_value_t = 100)]
        put_rate: u64,
    },
    /// Renew leases
    LeaseKeepalive {
        #[command(flatten)]
        load: LoadArgs,
        /// A new stream for every renewal, as etcd's tool does, instead of one per client
        #[arg(long)]
        new_streams: bool,
    },
    /// Grant leases
    LeaseGrant {
        #[command(flatten)]
        load: LoadArgs,
        /// Seconds
        #[arg(long, default_value_t = 3600)]
        ttl: i64,
    },
    /// Wait until the server answers a linearizable read
    Wait {
        /// Give up after so many seconds
        #[arg(long, default_value_t = 60.0)]
        seconds: f64,
    },
    /// Worst delay of other requests while an operation on the whole store runs
    Stall {
        /// The operation
        #[arg(long, default_value = "none")]
        operation: Operation,
    },
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Operations a second; 0 for as many as possible
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Number of operations
    #[arg(long, default_value_t = 10_000)]
    total: u64,
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// Bytes of a key
    #[arg(long, default_value_t = 8)]
    key_size: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 8)]
    val_size: usize,
    /// Number of different keys
    #[arg(long, default_value_t = 1)]
    key_space_size: u64,
    /// Keys one after the other instead of at random
    #[arg(long)]
    sequential_keys: bool,
}

impl KeyArgs {
    fn keys(&self) -> anyhow::Result<Keys> {
        ensure!(
            self.key_space_size > 0,
            "expected positive --key-space-size, got ({})",
            self.key_space_size
        );
        let sequential = self.sequential_keys;
        Ok(Keys { size: self.key_size, space: self.key_space_size, sequential })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Consistency {
    /// Linearizable
    L,
    /// Serializable
    S,
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// l(inearizable) or s(erializable)
    #[arg(long, default_value = "l")]
    consistency: Consistency,
    /// Most keys of an answer; 0 for no limit
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// Only count
    #[arg(long)]
    count_only: bool,
    /// Leave values out
    #[arg(long)]
    keys_only: bool,
}

impl ReadArgs {
    fn request(&self) -> RangeRequest {
        RangeRequest {
            serializable: self.consistency == Consistency::S,
            limit: self.limit,
            count_only: self.count_only,
            keys_only: self.keys_only,
            ..Default::default()
        }
    }
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// Watch streams
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// Different keys that are watched and put
    #[arg(long, default_value_t = 1)]
    watched_key_total: usize,
    /// Number of puts
    #[arg(long, default_value_t = 1000)]
    put_total: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 32)]
    key_size: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 32)]
    val_size: usize,
    /// Ask for previous values
    #[arg(long)]
    prevkv: bool,
}

impl WatchArgs {
    fn watch(&self, per_stream: usize, put_rate: u64) -> anyhow::Result<Watch> {
        let keys = self.watched_key_total;
        ensure!(keys > 0, "expected positive --watched-key-total, got ({keys})");
        Ok(Watch {
            streams: self.streams,
            per_stream,
            keys,
            puts: self.put_total,
            put_rate,
            key_size: self.key_size,
            val_size: self.val_size,
            prev_kv: self.prevkv,
        })
    }
}

/// Runs a command and prints its report.
///
/// # Errors
/// When the load could not be run to its end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    let (json, precise) = (cli.global.json, cli.global.precise);
    let report = measure(cli)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.text(precise));
    }
    let succeeded: u64 = report.classes.iter().map(|c| c.count).sum();
    ensure!(succeeded > 0 || report.errors() == 0, "every operation failed");
    Ok(())
}

/// Runs a command and gives its report.
///
/// # Errors
/// When the load could not be run to its end.
pub fn measure(cli: Cli) -> anyhow::Result<Report> {
    let mut plan = plan(&cli.global)?;
    if let Some(user) = &cli.global.user {
        plan.token = Some(authenticate(&plan, user)?);
    }
    execute(cli.command, plan)
}

fn plan(global: &Global) -> anyhow::Result<Plan> {
    for endpoint in &global.endpoints {
        ensure!(!endpoint.starts_with("https://"), "{endpoint}: TLS is not supported yet");
    }
    usage::Usage::of(&global.server_pid)?;
    Ok(Plan {
        endpoints: global.endpoints.clone(),
        conns: global.conns,
        clients: global.clients.max(1),
        total: 0,
        rate: 0,
        limit: Duration::try_from_secs_f64(global.max_seconds)?,
        threads: global.threads,
        token: None,
        dial_timeout: Duration::try_from_secs_f64(global.dial_timeout)?,
        server_pids: global.server_pid.clone(),
        progress: !global.json,
    })
}

fn authenticate(plan: &Plan, user: &str) -> anyhow::Result<String> {
    let (name, password) = user.split_once(':').context("--user needs name:password")?;
    let request = AuthenticateRequest { name: name.into(), password: password.into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let mut io = Io::connect(&plan.endpoints[0], None, plan.dial_timeout).await?;
        let path = "/etcdserverpb.Auth/Authenticate";
        stall::call(&mut io, path, &request.encode_to_vec(), Keep::Last).await
    })?;
    Ok(String::from_utf8(scan::bytes(&answer, 2).to_vec())?)
}

fn execute(command: Command, mut plan: Plan) -> anyhow::Result<Report> {
    let with = |load: &LoadArgs| Plan { total: load.total, rate: load.rate, ..plan.clone() };
    Ok(match command {
        Command::Put { keys, load } => {
            run::run("put", &with(&load), &work::Put::new(keys.keys()?, keys.val_size))?
        }
        Command::Range { key, end, read, load, key_size, key_space_size, prefix } => {
            announce(&plan, read.consistency);
            let range = range(key, end, read.request(), key_size, key_space_size, prefix)?;
            run::run("range", &with(&load), &range)?
        }
        Command::TxnPut { keys, load, txn_ops } => {
            let puts = work::TxnPut::new(keys.keys()?, keys.val_size, txn_ops);
            run::run("txn-put", &with(&load), &puts)?
        }
        Command::TxnMixed { key, end, keys, load, rw_ratio, consistency, limit } => {
            let request = RangeRequest {
                key: key.into(),
                range_end: end.unwrap_or_default().into(),
                limit,
                serializable: consistency == Consistency::S,
                ..Default::default()
            };
            let mixed = work::Mixed::new(keys.keys()?, keys.val_size, request, rw_ratio);
            run::run("txn-mixed", &with(&load), &mixed)?
        }
        Command::Update { keys, load } => {
            run::run("update", &with(&load), &work::Update::new(keys.keys()?, keys.val_size))?
        }
        Command::Fill { keys, per_group, val_size, batch } => {
            ensure!(per_group > 0 && batch > 0, "expected positive --per-group and --batch");
            let fill = work::Fill::new(keys, per_group, batch, val_size);
            plan.total = fill.operations();
            run::run("fill", &plan, &fill)?
        }
        Command::List { read, load, groups, pages } => {
            ensure!(!pages || read.limit > 0, "--pages needs --limit");
            run::run("list", &with(&load), &work::List::new(read.request(), groups, pages))?
        }
        Command::Watch { watch, watch_per_stream, put_rate } => {
            watch::run("watch", &plan, &watch.watch(watch_per_stream, put_rate)?)?
        }
        Command::WatchLatency { watch, watchers_per_stream, put_rate } => {
            watch::run("watch-latency", &plan, &watch.watch(watchers_per_stream, put_rate)?)?
        }
        Command::LeaseKeepalive { load, new_streams } => keep_alive(&with(&load), new_streams)?,
        Command::LeaseGrant { load, ttl } => {
            run::run("lease-grant", &with(&load), &work::Grant { ttl, first_id: 0 })?
        }
        Command::Wait { seconds } => wait(&plan, Duration::try_from_secs_f64(seconds)?)?,
        Command::Stall { operation } => stall::run(&plan, operation)?,
    })
}

fn announce(plan: &Plan, consistency: Consistency) {
    if plan.progress {
        match consistency {
            Consistency::L => println!("bench with linearizable range"),
            Consistency::S => println!("bench with serializable range"),
        }
    }
}

fn range(
    key: Option<String>,
    end: Option<String>,
    request: RangeRequest,
    size: usize,
    space: u64,
    prefix: bool,
) -> anyhow::Result<work::Range> {
    if space > 0 {
        let keys = Some(Keys { size, space, sequential: false });
        return Ok(work::Range { request, keys });
    }
    let Some(key) = key else { bail!("range needs a key, or --key-space-size") };
    let end = match end {
        None if prefix => prefix_end(key.as_bytes()),
        end => end.unwrap_or_default().into_bytes(),
    };
    let request = RangeRequest { key: key.into(), range_end: end.into(), ..request };
    Ok(work::Range { request, keys: None })
}

/// The first key behind all keys with a prefix.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // There is none: everything from the prefix on.
    vec![0]
}

/// Grants a lease for each client, then renews them.
fn keep_alive(plan: &Plan, new_streams: bool) -> anyhow::Result<Report> {
    // One id per nanosecond: runs that follow each other never share one.
    let first_id = crate::clock::unix_time().as_nanos() as i64;
    let grants = Plan {
        total: plan.clients as u64,
        rate: 0,
        server_pids: Vec::new(),
        progress: false,
        ..plan.clone()
    };
    let granted = run::run("lease-grant", &grants, &work::Grant { ttl: 3600, first_id })?;
    ensure!(granted.errors() == 0, "leases were not granted: {}", granted.text(false));
    let renew = work::KeepAlive { first_id, reuse_stream: !new_streams };
    Ok(run::run("lease-keepalive", plan, &renew)?)
}

/// Tries to read until that succeeds.
fn wait(plan: &Plan, patience: Duration) -> anyhow::Result<Report> {
    let request = RangeRequest { key: "-".into(), ..Default::default() }.encode_to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = now();
    let attempt = async || {
        let mut io = Io::connect(&plan.endpoints[0], None, RETRY_LIMIT).await?;
        let answer = stall::call(&mut io, "/etcdserverpb.KV/Range", &request, Keep::Nothing);
        let late = |_| run::Error::Server("no answer in time".into());
        tokio::time::timeout(RETRY_LIMIT, answer).await.map_err(late)?
    };
    let mut recorder = Recorder::default();
    while let Err(e) = runtime.block_on(attempt()) {
        ensure!(begun.elapsed() < patience, "no answer within {patience:?}: {e}");
        runtime.block_on(async { tokio::time::sleep(RETRY_EVERY).await });
    }
    recorder.success(begun.elapsed());
    Ok(Report::new("wait", begun.elapsed(), vec![("first answer", recorder)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn prefix_ends_carry() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), [0]);
    }

    #[test]
    fn an_empty_key_space_is_refused_in_etcds_words() {
        let cli = Cli::parse_from(["benchmark-rs", "put", "--key-space-size", "0"]);
        let error = run(cli).unwrap_err().to_string();
        assert_eq!(error, "expected positive --key-space-size, got (0)");
    }
}
