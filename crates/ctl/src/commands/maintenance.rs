//! compaction, alarm, defrag, move-leader, version.

use std::time::Duration;

use etcdrs_client::pb;
use etcdrs_platform::{Clock, SystemClock};

use crate::cli::{AlarmCommand, ClusterArgs, CompactionArgs, Global, Words};
use crate::commands::text;
use crate::failure::Failure;
use crate::go;
use crate::print::Answer;
use crate::session::Session;

/// The etcdctl whose surface this tool has.
const VERSION: &str = "3.7.1";
/// The level of the API it speaks.
const API_VERSION: &str = "3.7";

pub(super) fn version() -> Result<(), Failure> {
    println!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}");
    println!("etcd-rs version: {}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

pub(super) async fn compaction(global: Global, args: CompactionArgs) -> Result<(), Failure> {
    let [revision] = args.args.as_slice() else {
        return Err(Failure::bad_args("compaction command needs 1 argument"));
    };
    let revision = go::parse_int(&text(revision), 10).map_err(Failure::error)?;
    let session = Session::new(global).await?;
    let mut client = session.client().await?;
    if args.physical {
        client = client.with_timeout(None);
    }
    client.compact(revision, args.physical).await?;
    session.printer.line(&format!("compacted revision {revision}"))
}

pub(super) async fn alarm(global: Global, command: AlarmCommand) -> Result<(), Failure> {
    let (words, name) = match &command {
        AlarmCommand::List(words) => (words, "list"),
        AlarmCommand::Disarm(words) => (words, "disarm"),
    };
    if !words.args.is_empty() {
        return Err(Failure::bad_args(format!("alarm {name} command accepts no arguments")));
    }
    let session = Session::new(global).await?;
    let client = session.client().await?;
    let raised = client.alarms().await?;
    if matches!(command, AlarmCommand::List(_)) {
        return session.printer.show(&Answer::Alarms(&raised));
    }
    // AL-07: every alarm is cleared by a request of its own.
    let mut cleared = pb::AlarmResponse { header: raised.header, alarms: Vec::new() };
    for alarm in &raised.alarms {
        let response = client
            .alarm(pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate.into(),
                member_id: alarm.member_id,
                alarm: alarm.alarm,
            })
            .await?;
        cleared.header = response.header;
        cleared.alarms.extend(response.alarms);
    }
    session.printer.show(&Answer::Alarms(&cleared))
}

pub(super) async fn defrag(global: Global, args: ClusterArgs) -> Result<(), Failure> {
    let session = Session::new(global).await?;
    let clock = SystemClock::new();
    let mut failed = false;
    for endpoint in session.all_endpoints(args.cluster).await? {
        let start = clock.now_ns();
        let outcome = session.client_at(&endpoint).await?.defragment().await;
        let took = go::format_duration(Duration::from_nanos(clock.now_ns() - start));
        match outcome {
            Ok(_) => {
                let line = format!("Finished defragmenting etcd member[{endpoint}]. took {took}");
                session.printer.line(&line)?;
            }
            Err(error) => {
                failed = true;
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})");
            }
        }
    }
    if failed { Err(Failure::silent()) } else { Ok(()) }
}

pub(super) async fn move_leader(global: Global, words: Words) -> Result<(), Failure> {
    let [target] = words.args.as_slice() else {
        return Err(Failure::bad_args("move-leader command needs 1 argument"));
    };
    let to = go::parse_uint(&text(target), 16).map_err(Failure::bad_args)?;
    let session = Session::new(global).await?;
    for endpoint in &session.endpoints {
        let client = session.client_at(endpoint).await?;
        let status = client.status().await?;
        let from = status.header.as_ref().map_or(0, |header| header.member_id);
        if status.leader != from {
            continue;
        }
        // Only the leader can give its office away.
        let response = client.move_leader(to).await?;
        return session.printer.show(&Answer::MoveLeader { from, to, response: &response });
    }
    let endpoints = session.endpoints.join(" ");
    Err(Failure::bad_args(format!("no leader endpoint given at [{endpoints}]")))
}
