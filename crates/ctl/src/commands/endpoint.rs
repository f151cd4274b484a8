//! endpoint health, status, hashkv.

use std::time::Duration;

use etcdrs_client::{Error, ErrorKind, Get, pb};
use etcdrs_platform::{Clock, SystemClock};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::cli::{EndpointArgs, EndpointCommand, Global};
use crate::failure::Failure;
use crate::print::{Answer, Format, Health};
use crate::session::Session;

pub(super) async fn run(global: Global, args: EndpointArgs) -> Result<(), Failure> {
    let session = Session::new(global).await?;
    let endpoints = session.all_endpoints(args.cluster).await?;
    match args.command {
        EndpointCommand::Health(_) => health(&session, &endpoints).await,
        EndpointCommand::Status(_) => status(&session, &endpoints).await,
        EndpointCommand::Hashkv(flags) => hash_kv(&session, &endpoints, flags.rev).await,
    }
}

/// Asks all at once; who answers first is printed first.
async fn health(session: &Session, endpoints: &[String]) -> Result<(), Failure> {
    let checks: Vec<Health> = endpoints
        .iter()
        .map(|endpoint| check(session, endpoint))
        .collect::<FuturesUnordered<_>>()
        .collect()
        .await;
    session.printer.show(&Answer::Health(&checks))?;
    if checks.iter().all(|check| check.healthy) {
        return Ok(());
    }
    Err(Failure::error("unhealthy cluster"))
}

async fn check(session: &Session, endpoint: &str) -> Health {
    let clock = SystemClock::new();
    let start = clock.now_ns();
    let found = tokio::time::timeout(session.command_timeout(), probe(session, endpoint)).await;
    let error = match found {
        Ok(Ok(())) => String::new(),
        Ok(Err(error)) => error,
        Err(_) => "context deadline exceeded".to_owned(),
    };
    Health {
        endpoint: endpoint.to_owned(),
        healthy: error.is_empty(),
        took: Duration::from_nanos(clock.now_ns() - start),
        error,
    }
}

/// A read through consensus, then a look at the alarms. A user who may not read the key has been
/// answered through consensus all the same.
async fn probe(session: &Session, endpoint: &str) -> Result<(), String> {
    let client = session.client_at(endpoint).await.map_err(|failure| failure.text().to_owned())?;
    match client.get(Get::key("health")).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error.to_string()),
    }
    let alarms = client.alarms().await.map_err(|_| "Unable to fetch the alarm list".to_owned())?;
    let raised: String = alarms
        .alarms
        .iter()
        .filter(|alarm| alarm.alarm() != pb::AlarmType::None)
        .map(|alarm| format!("{} ", alarm.alarm().as_str_name()))
        .collect();
    if raised.is_empty() { Ok(()) } else { Err(format!("Active Alarm(s): {raised}")) }
}

/// Asks one after the other; who does not answer is told of and left out.
async fn status(session: &Session, endpoints: &[String]) -> Result<(), Failure> {
    let (mut all, mut failed) = (Vec::new(), false);
    for endpoint in endpoints {
        match session.client_at(endpoint).await?.status().await {
            Ok(status) => all.push((endpoint.clone(), status)),
            Err(error) => {
                failed = true;
                eprintln!("Failed to get the status of endpoint {endpoint} ({error})");
            }
        }
    }
    show_all(session, &Answer::Status(&all))?;
    if failed { Err(Failure::silent()) } else { Ok(()) }
}

async fn hash_kv(session: &Session, endpoints: &[String], revision: i64) -> Result<(), Failure> {
    let (mut all, mut failed): (_, Option<Error>) = (Vec::new(), None);
    for endpoint in endpoints {
        match session.client_at(endpoint).await?.hash_kv(revision).await {
            Ok(answer) => all.push((endpoint.clone(), answer)),
            Err(error) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({error})");
                failed = Some(error);
            }
        }
    }
    show_all(session, &Answer::HashKv(&all))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Go prints a list that nothing was added to as `null`.
fn show_all(session: &Session, answer: &Answer<'_>) -> Result<(), Failure> {
    let empty = match answer {
        Answer::Status(all) => all.is_empty(),
        Answer::HashKv(all) => all.is_empty(),
        _ => false,
    };
    match session.printer.format() {
        Format::Json if empty => session.printer.line("null"),
        _ => session.printer.show(answer),
    }
}
