//! snapshot save.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcdrs_client::{Client, SnapshotStream};
use etcdrs_platform::{Clock, File, Fs, Open, OsFs, SystemClock};

use crate::cli::{Global, SnapshotCommand};
use crate::failure::Failure;
use crate::go;
use crate::session::Session;

/// A database is for its owner's eyes only.
const PERMISSIONS: u32 = 0o600;

pub(super) async fn run(global: Global, command: SnapshotCommand) -> Result<(), Failure> {
    let SnapshotCommand::Save(words) = command;
    let [path] = words.args.as_slice() else {
        return Err(Failure::bad_args("snapshot save expects one argument <filename>"));
    };
    let path = PathBuf::from(path);
    let session = Session::new(global).await?;
    let [endpoint] = session.endpoints.as_slice() else {
        return Err(Failure::interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            session.endpoints.join(" ")
        )));
    };
    let client = session.client().await?;
    let work = save(&client, endpoint, &path);
    // A download takes as long as it takes, unless its user has said otherwise.
    let outcome = if session.timeout_given {
        tokio::time::timeout(session.command_timeout(), work)
            .await
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    } else {
        work.await
    };
    let version = outcome.map_err(Failure::interrupted)?;
    session.printer.line(&format!("Snapshot saved at {}", path.display()))?;
    if version.is_empty() {
        return Ok(());
    }
    session.printer.line(&format!("Server version {version}"))
}

/// Downloads to `<path>.part`, which takes its name only when all of it is checked and on disk.
/// Gives the server's version.
async fn save(client: &Client, endpoint: &str, path: &Path) -> Result<String, String> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let fs = OsFs;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("could not {what} {} ({error})", part.display())
    };
    let file = fs.open(&part, Open::Create(PERMISSIONS)).map_err(|error| {
        let why = go::io_error(&error);
        failed("open", &format!("open {}: {why}", part.display()))
    })?;
    log("created temporary db file", &[("path", &part.display().to_string())]);
    let outcome = async {
        log("fetching snapshot", &[("endpoint", endpoint)]);
        let clock = SystemClock::new();
        let start = clock.now_ns();
        let mut stream = client.snapshot().await.map_err(|error| error.to_string())?;
        download(&mut stream, &file).await?;
        file.sync_all().map_err(|error| failed("fsync", &error))?;
        let took = go::format_duration(Duration::from_nanos(clock.now_ns() - start));
        let size = go::bytes_si(stream.received_bytes());
        log("fetched snapshot", &[("endpoint", endpoint), ("size", &size), ("took", &took)]);
        fs.rename_durable(&part, path).map_err(|error| {
            format!("could not rename {} to {} ({error})", part.display(), path.display())
        })?;
        log("saved", &[("path", &path.display().to_string())]);
        Ok(stream.version().to_owned())
    }
    .await;
    if outcome.is_err() {
        // The first error is the one to tell; a leftover is overwritten by the next attempt.
        let _ = fs.remove_file(&part);
    }
    outcome
}

async fn download(stream: &mut SnapshotStream, file: &impl File) -> Result<(), String> {
    let mut offset = 0;
    while let Some(piece) = stream.next().await.map_err(|error| error.to_string())? {
        file.write_at(&piece, offset).map_err(|error| error.to_string())?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// A line of JSON on standard error, as etcdctl logs the steps of a snapshot.
fn log(message: &str, fields: &[(&str, &str)]) {
    let millis = SystemClock::new().wall_unix_ms();
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!(",\"{name}\":{}", crate::print::json_string(value)))
        .collect();
    let (seconds, millis) = (millis / 1000, millis % 1000);
    eprintln!("{{\"level\":\"info\",\"ts\":{seconds}.{millis:03},\"msg\":\"{message}\"{fields}}}");
}
