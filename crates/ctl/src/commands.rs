//! The commands, one file a subject.

mod endpoint;
mod kv;
mod lease;
mod maintenance;
mod member;
mod snapshot;
mod txn;
mod watch;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Runs a command; nothing to do if the command line only asked for help.
pub(crate) async fn run(cli: Option<Cli>, args: &[OsString]) -> Result<(), Failure> {
    let Some(Cli { global, command }) = cli else { return Ok(()) };
    match command {
        Command::Put(args) => kv::put(global, args).await,
        Command::Get(args) => kv::get(global, args).await,
        Command::Del(args) => kv::del(global, args).await,
        Command::Txn(args) => txn::run(global, args).await,
        Command::Watch(flags) => watch::run(global, flags, args).await,
        Command::Compaction(args) => maintenance::compaction(global, args).await,
        Command::Lease(command) => lease::run(global, command).await,
        Command::Member(command) => member::run(global, command).await,
        Command::Endpoint(command) => endpoint::run(global, command).await,
        Command::Alarm(command) => maintenance::alarm(global, command).await,
        Command::Defrag(args) => maintenance::defrag(global, args).await,
        Command::MoveLeader(args) => maintenance::move_leader(global, args).await,
        Command::Snapshot(command) => snapshot::run(global, command).await,
        Command::Version => maintenance::version(),
    }
}

/// A word as bytes: keys and values need not be text.
fn bytes(word: &OsStr) -> Bytes {
    Bytes::copy_from_slice(word.as_bytes())
}

/// A word as text, for what is text: ids, numbers, names, paths in messages.
fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}
