//! The command line: etcdctl's commands and flags, on clap.

mod refusal;

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Failure;
use crate::go;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "etcdctl",
    about = "A simple command line client for etcd and etcd-rs",
    infer_subcommands = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command (ctl.md §1.2). Absent ones come from the environment or a default.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// gRPC endpoints, comma separated [default: 127.0.0.1:2379]
    #[arg(long, global = true, value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) endpoints: Option<Vec<String>>,
    /// Output format: simple, json, fields, table, protobuf [default: simple]
    #[arg(long, short = 'w', global = true)]
    pub(crate) write_out: Option<String>,
    /// Print byte strings and ids as hex
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) hex: Option<bool>,
    /// Tell the settings on standard error
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) debug: Option<bool>,
    /// Time-out of opening a connection [default: 2s]
    #[arg(long, global = true, value_parser = go::parse_duration)]
    pub(crate) dial_timeout: Option<Duration>,
    /// Time-out of short commands [default: 5s]
    #[arg(long, global = true, value_parser = go::parse_duration)]
    pub(crate) command_timeout: Option<Duration>,
    /// Interval of keep-alive pings [default: 2s]
    #[arg(long, global = true, value_parser = go::parse_duration)]
    pub(crate) keepalive_time: Option<Duration>,
    /// Time-out of keep-alive pings [default: 6s]
    #[arg(long, global = true, value_parser = go::parse_duration)]
    pub(crate) keepalive_timeout: Option<Duration>,
    /// Largest request in bytes; 0 for 2 MiB
    #[arg(long, global = true, value_parser = go_int)]
    pub(crate) max_request_bytes: Option<i64>,
    /// Largest answer in bytes; 0 for no limit
    #[arg(long, global = true, value_parser = go_int)]
    pub(crate) max_recv_bytes: Option<i64>,
    /// Plain text connections [default: true]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) insecure_transport: Option<bool>,
    /// Accept insecure SRV records [default: true]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) insecure_discovery: Option<bool>,
    /// Do not verify the server's certificate
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    /// Client certificate file
    #[arg(long, global = true)]
    pub(crate) cert: Option<String>,
    /// Client key file
    #[arg(long, global = true)]
    pub(crate) key: Option<String>,
    /// Certificate authority file
    #[arg(long, global = true)]
    pub(crate) cacert: Option<String>,
    /// User as name:password
    #[arg(long, global = true)]
    pub(crate) user: Option<String>,
    /// Password of --user
    #[arg(long, global = true)]
    pub(crate) password: Option<String>,
    /// JWT that stands for a user
    #[arg(long, global = true)]
    pub(crate) auth_jwt_token: Option<String>,
    /// Domain of SRV records with endpoints
    #[arg(long, short = 'd', global = true)]
    pub(crate) discovery_srv: Option<String>,
    /// Service name of SRV records
    #[arg(long, global = true)]
    pub(crate) discovery_srv_name: Option<String>,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts the given key into the store
    Put(PutArgs),
    /// Gets the key or a range of keys
    Get(GetArgs),
    /// Removes the specified key or range of keys [key, range_end)
    Del(DelArgs),
    /// Txn processes all the requests in one transaction
    Txn(TxnArgs),
    /// Watches events stream on keys or prefixes
    Watch(WatchArgs),
    /// Compacts the event history in etcd
    Compaction(CompactionArgs),
    /// Lease related commands
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Membership related commands
    #[command(subcommand)]
    Member(MemberCommand),
    /// Endpoint related commands
    Endpoint(EndpointArgs),
    /// Alarm related commands
    #[command(subcommand)]
    Alarm(AlarmCommand),
    /// Defragments the storage of the etcd members with given endpoints
    Defrag(ClusterArgs),
    /// Transfers leadership to another etcd cluster member
    MoveLeader(Words),
    /// Manages etcd node snapshots
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Prints the version of etcdctl
    Version,
}

/// Only words.
#[derive(Args, Debug)]
pub(crate) struct Words {
    pub(crate) args: Vec<OsString>,
}

/// Flags of `put`.
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    pub(crate) args: Vec<OsString>,
    /// Lease ID (in hexadecimal) to attach to the key
    #[arg(long, default_value = "0")]
    pub(crate) lease: String,
    /// Return the previous key-value pair before modification
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Updates the key using its current value
    #[arg(long)]
    pub(crate) ignore_value: bool,
    /// Updates the key using its current lease
    #[arg(long)]
    pub(crate) ignore_lease: bool,
}

/// Flags of `get`.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    pub(crate) args: Vec<OsString>,
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l")]
    pub(crate) consistency: String,
    /// Order of results; ASCEND or DESCEND
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) order: String,
    /// Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) sort_by: String,
    /// Maximum number of results
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) limit: i64,
    /// Get keys with matching prefix
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Get keys that are greater than or equal to the given key
    #[arg(long)]
    pub(crate) from_key: bool,
    /// Specify the kv revision
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) rev: i64,
    /// Get only the keys
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Get only the count
    #[arg(long)]
    pub(crate) count_only: bool,
    /// Only write values when using the "simple" output format
    #[arg(long)]
    pub(crate) print_value_only: bool,
    /// Minimum create revision
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) min_create_rev: i64,
    /// Maximum create revision
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) max_create_rev: i64,
    /// Minimum modification revision
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) min_mod_rev: i64,
    /// Maximum modification revision
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) max_mod_rev: i64,
    /// Ask for the result in pieces
    #[arg(long)]
    pub(crate) stream: bool,
}

/// Flags of `del`.
#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    pub(crate) args: Vec<OsString>,
    /// Delete keys with matching prefix
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Delete keys that are greater than or equal to the given key
    #[arg(long)]
    pub(crate) from_key: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Delete a range of keys without delay
    #[arg(long)]
    pub(crate) range: bool,
}

/// Flags of `txn`.
#[derive(Args, Debug)]
pub(crate) struct TxnArgs {
    pub(crate) args: Vec<OsString>,
    /// Input transaction in interactive mode
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
}

/// Flags of `watch`.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    pub(crate) args: Vec<OsString>,
    /// Command to run for each event
    #[arg(last = true)]
    pub(crate) exec: Vec<OsString>,
    /// Interactive mode
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// Watch on a prefix if prefix is set
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Revision to start watching
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) rev: i64,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Get periodic watch progress notification from server
    #[arg(long)]
    pub(crate) progress_notify: bool,
}

/// Flags of `compaction`.
#[derive(Args, Debug)]
pub(crate) struct CompactionArgs {
    pub(crate) args: Vec<OsString>,
    /// Wait for the compaction to physically remove all old revisions
    #[arg(long)]
    pub(crate) physical: bool,
}

/// What can be done about leases.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true, arg_required_else_help = true)]
pub(crate) enum LeaseCommand {
    /// Creates leases
    Grant(Words),
    /// Revokes leases
    Revoke(Words),
    /// Get lease information
    Timetolive(TimeToLiveArgs),
    /// List all active leases
    List(Words),
    /// Keeps leases alive (renew)
    KeepAlive(KeepAliveArgs),
}

/// Flags of `lease timetolive`.
#[derive(Args, Debug)]
pub(crate) struct TimeToLiveArgs {
    pub(crate) args: Vec<OsString>,
    /// Get keys attached to this lease
    #[arg(long)]
    pub(crate) keys: bool,
}

/// Flags of `lease keep-alive`.
#[derive(Args, Debug)]
pub(crate) struct KeepAliveArgs {
    pub(crate) args: Vec<OsString>,
    /// Renew once and exit
    #[arg(long)]
    pub(crate) once: bool,
}

/// What can be done about members.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true, arg_required_else_help = true)]
pub(crate) enum MemberCommand {
    /// Adds a member into the cluster
    Add(MemberAddArgs),
    /// Removes a member from the cluster
    Remove(Words),
    /// Updates a member in the cluster
    Update(MemberUpdateArgs),
    /// Lists all members in the cluster
    List(MemberListArgs),
    /// Promotes a non-voting member in the cluster
    Promote(Words),
}

/// Flags of `member add`.
#[derive(Args, Debug)]
pub(crate) struct MemberAddArgs {
    pub(crate) args: Vec<OsString>,
    /// Comma separated peer URLs of the new member
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) peer_urls: String,
    /// Add as a learner
    #[arg(long)]
    pub(crate) learner: bool,
}

/// Flags of `member update`.
#[derive(Args, Debug)]
pub(crate) struct MemberUpdateArgs {
    pub(crate) args: Vec<OsString>,
    /// Comma separated peer URLs of the member
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) peer_urls: String,
}

/// Flags of `member list`.
#[derive(Args, Debug)]
pub(crate) struct MemberListArgs {
    pub(crate) args: Vec<OsString>,
    /// Linearizable(l) or Serializable(s)
    #[arg(long, default_value = "l")]
    pub(crate) consistency: String,
}

/// Flags of `endpoint`.
#[derive(Args, Debug)]
#[command(infer_subcommands = true, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct EndpointArgs {
    /// Use all endpoints from the cluster member list
    #[arg(long, global = true)]
    pub(crate) cluster: bool,
    #[command(subcommand)]
    pub(crate) command: EndpointCommand,
}

/// What can be asked of endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Checks the healthiness of endpoints
    Health(Words),
    /// Prints out the status of endpoints
    Status(Words),
    /// Prints the KV history hash for each endpoint
    Hashkv(HashKvArgs),
}

/// Flags of `endpoint hashkv`.
#[derive(Args, Debug)]
pub(crate) struct HashKvArgs {
    pub(crate) args: Vec<OsString>,
    /// Maximum revision to hash (default: latest revision)
    #[arg(long, default_value = "0", value_parser = go_int)]
    pub(crate) rev: i64,
}

/// What can be done about alarms.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true, arg_required_else_help = true)]
pub(crate) enum AlarmCommand {
    /// Disarms all alarms
    Disarm(Words),
    /// Lists all alarms
    List(Words),
}

/// Flags of commands on all members.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    pub(crate) args: Vec<OsString>,
    /// Use all endpoints from the cluster member list
    #[arg(long)]
    pub(crate) cluster: bool,
}

/// What can be done about snapshots.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true, arg_required_else_help = true)]
pub(crate) enum SnapshotCommand {
    /// Stores an etcd node backend snapshot to a given file
    Save(Words),
}

/// One line of a transaction.
#[derive(Debug, Parser)]
#[command(name = "txn", no_binary_name = true, disable_help_flag = true)]
pub(crate) struct TxnLine {
    #[command(subcommand)]
    pub(crate) op: TxnOp,
}

/// What a transaction may do.
#[derive(Debug, Subcommand)]
pub(crate) enum TxnOp {
    /// Reads keys
    Get(GetArgs),
    /// Writes a key
    Put(PutArgs),
    /// Removes keys
    Del(DelArgs),
}

/// One line of an interactive watch, without its first word.
#[derive(Debug, Parser)]
#[command(name = "watch", no_binary_name = true, disable_help_flag = true)]
pub(crate) struct WatchLine {
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// `strconv.ParseBool`.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Reads a flag that is a number.
fn go_int(text: &str) -> Result<i64, String> {
    go::parse_int(text, 10)
}

/// Bends clap to pflag's ways, all the way down: a switch may be written `--name=false`, an
/// option takes the next word whatever it looks like, and the last of several wins.
fn like_pflag(command: clap::Command) -> clap::Command {
    command
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .hide_default_value(true)
                .default_missing_value("true")
                .hide_possible_values(true)
                .value_parser(go_bool),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        })
        .mut_subcommands(like_pflag)
}

/// Reads the command line; `None` if all it asked for was help, which has been printed.
pub(crate) fn parse(args: &[OsString]) -> Result<Option<Cli>, Failure> {
    let command = like_pflag(Cli::command());
    let matches = command.try_get_matches_from(args);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) => refusal::explain(&error, args).map(|()| None),
    }
}

/// Reads a line of interactive input with the parser of its kind; `None` if it is malformed.
pub(crate) fn parse_line<P: Parser>(words: &[Vec<u8>]) -> Option<P> {
    use std::os::unix::ffi::OsStringExt;
    let words = words.iter().cloned().map(OsString::from_vec);
    let matches = like_pflag(P::command()).try_get_matches_from(words).ok()?;
    P::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests;
