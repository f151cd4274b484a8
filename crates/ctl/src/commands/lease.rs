//! lease grant, revoke, timetolive, list, keep-alive. Errors of the last three have code 2.

use std::ffi::OsString;

use etcdrs_client::Error;

use crate::cli::{Global, KeepAliveArgs, LeaseCommand};
use crate::commands::text;
use crate::failure::Failure;
use crate::go;
use crate::print::Answer;
use crate::session::Session;

pub(super) async fn run(global: Global, command: LeaseCommand) -> Result<(), Failure> {
    match command {
        LeaseCommand::Grant(words) => grant(global, &words.args).await,
        LeaseCommand::Revoke(words) => revoke(global, &words.args).await,
        LeaseCommand::Timetolive(flags) => {
            const USAGE: &str = "lease timetolive command needs lease ID as argument";
            let id = lease_id(&flags.args, USAGE)?;
            let session = Session::new(global).await?;
            let client = session.patient_client().await?;
            let response =
                client.lease_time_to_live(id, flags.keys).await.map_err(bad_connection)?;
            let answer = Answer::TimeToLive { response: &response, keys: flags.keys };
            session.printer.show(&answer)
        }
        LeaseCommand::List(_) => {
            let session = Session::new(global).await?;
            let response =
                session.patient_client().await?.leases().await.map_err(bad_connection)?;
            session.printer.show(&Answer::Leases(&response))
        }
        LeaseCommand::KeepAlive(flags) => keep_alive(global, flags).await,
    }
}

fn bad_connection(error: Error) -> Failure {
    Failure::bad_connection(error.to_string())
}

fn lease_id(args: &[OsString], usage: &str) -> Result<i64, Failure> {
    let [id] = args else { return Err(Failure::bad_args(usage)) };
    go::parse_int(&text(id), 16)
        .map_err(|why| Failure::bad_args(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}

async fn grant(global: Global, args: &[OsString]) -> Result<(), Failure> {
    let [ttl] = args else {
        return Err(Failure::bad_args("lease grant command needs TTL argument"));
    };
    let ttl = go::parse_int(&text(ttl), 10)
        .map_err(|why| Failure::bad_args(format!("bad TTL ({why})")))?;
    let session = Session::new(global).await?;
    let response = session
        .client()
        .await?
        .lease_grant(ttl, 0)
        .await
        .map_err(|error| Failure::error(format!("failed to grant lease ({error})")))?;
    session.printer.show(&Answer::Grant(&response))
}

async fn revoke(global: Global, args: &[OsString]) -> Result<(), Failure> {
    let id = lease_id(args, "lease revoke command needs 1 argument")?;
    let session = Session::new(global).await?;
    let response = session
        .client()
        .await?
        .lease_revoke(id)
        .await
        .map_err(|error| Failure::error(format!("failed to revoke lease ({error})")))?;
    session.printer.show(&Answer::Revoke { id, response: &response })
}

async fn keep_alive(global: Global, flags: KeepAliveArgs) -> Result<(), Failure> {
    let id = lease_id(&flags.args, "lease keep-alive command needs lease ID as argument")?;
    let session = Session::new(global).await?;
    let client = session.patient_client().await?;
    if flags.once {
        let response = client.keep_alive_once(id).await.map_err(bad_connection)?;
        return session.printer.show(&Answer::KeepAlive(&response));
    }
    let mut renewals = client.keep_alive(id).map_err(bad_connection)?;
    while let Some(response) = renewals.next().await {
        session.printer.show(&Answer::KeepAlive(&response))?;
    }
    session.printer.line(&format!("lease {id:016x} expired or revoked."))
}
