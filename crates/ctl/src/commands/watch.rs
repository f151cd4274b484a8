//! watch, also interactively (ctl.md §2.5, §3.3, §3.4).

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use etcdrs_client::mvccpb::{Event, event::EventType};
use etcdrs_client::{Error, WatchOptions, WatchStream, Watcher, pb};
use etcdrs_types::prefix_end;
use tokio::sync::mpsc;

use crate::argify::argify;
use crate::cli::{Global, WatchArgs, WatchLine, parse_line};
use crate::commands::bytes;
use crate::failure::Failure;
use crate::go;
use crate::print::{Answer, Printer};
use crate::session::Session;

const ENV_KEY: &str = "ETCDCTL_WATCH_KEY";
const ENV_RANGE_END: &str = "ETCDCTL_WATCH_RANGE_END";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";
const PREFIX_AND_END: &str = "`range_end` and `--prefix` are mutually exclusive";

/// A watch and what to run for its events.
struct Plan {
    request: pb::WatchCreateRequest,
    exec: Vec<OsString>,
}

pub(super) async fn run(
    global: Global,
    flags: WatchArgs,
    args: &[OsString],
) -> Result<(), Failure> {
    if flags.interactive {
        return interactive(global, flags.progress_notify).await;
    }
    if args.last().is_some_and(|last| last == "--") {
        return Err(Failure::bad_args(NO_COMMAND));
    }
    let Plan { request, exec } = plan(flags)?;
    let session = Session::new(global).await?;
    let stream = session.watching_client().await?.watch_stream();
    follow(&stream, request, &exec, session.printer).await?;
    Err(Failure::interrupted("watch is canceled by the server"))
}

/// What the words and flags of a watch mean, with the environment's help.
fn plan(flags: WatchArgs) -> Result<Plan, Failure> {
    let env = |name| std::env::var_os(name).unwrap_or_default();
    let (env_key, env_end) = (env(ENV_KEY), env(ENV_RANGE_END));
    let words: Vec<Bytes> = match (env_key.is_empty(), flags.args.is_empty()) {
        (false, false) => {
            let message = "bad number of arguments (found conflicting environment key)";
            return Err(Failure::bad_args(message));
        }
        (false, true) if env_end.is_empty() => vec![bytes(&env_key)],
        (false, true) => vec![bytes(&env_key), bytes(&env_end)],
        (true, _) if !env_end.is_empty() => {
            let end = go::quote(env_end.as_bytes());
            let message = format!("{ENV_KEY} is empty but got {ENV_RANGE_END}={end}");
            return Err(Failure::bad_args(message));
        }
        (true, _) => flags.args.iter().map(|word| bytes(word)).collect(),
    };
    let (key, range_end) = match words.as_slice() {
        [key] if flags.prefix && key.is_empty() => {
            (Bytes::from_static(&[0]), Bytes::from_static(&[0]))
        }
        [key] if flags.prefix => (key.clone(), prefix_end(key)),
        [key] => (key.clone(), Bytes::new()),
        [_, _, ..] if flags.prefix => return Err(Failure::bad_args(PREFIX_AND_END)),
        // Words behind the second mean nothing to etcdctl either.
        [key, end, ..] => (key.clone(), end.clone()),
        [] => return Err(Failure::bad_args("bad number of arguments")),
    };
    let request = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: flags.rev,
        progress_notify: flags.progress_notify,
        prev_kv: flags.prev_kv,
        fragment: true,
        ..Default::default()
    };
    Ok(Plan { request, exec: flags.exec })
}

/// Prints a watch until the server ends it.
async fn follow(
    stream: &WatchStream,
    request: pb::WatchCreateRequest,
    exec: &[OsString],
    printer: Printer,
) -> Result<(), Failure> {
    let outcome = match stream.watch(WatchOptions::from(request)).await {
        Ok(watcher) => print(watcher, exec, printer).await?,
        Err(error) => error,
    };
    eprintln!("watch was canceled ({outcome})");
    // etcdctl prints the answer that ended the watch like any other.
    let last = outcome.canceled_watch().cloned().unwrap_or_default();
    printer.show(&Answer::Watch(&pb::WatchResponse { canceled: true, created: false, ..last }))
}

/// Prints a watch; gives the reason of its end.
async fn print(
    mut watcher: Watcher,
    exec: &[OsString],
    printer: Printer,
) -> Result<Error, Failure> {
    loop {
        let answer = match watcher.next().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Failure::interrupted("watch is canceled by the server")),
            Err(error) => return Ok(error),
        };
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.events.is_empty() {
            printer.line(&format!("progress notify: {revision}"))?;
        }
        printer.show(&Answer::Watch(&answer))?;
        if !exec.is_empty() {
            for event in &answer.events {
                execute(exec, event, revision).await?;
            }
        }
    }
}

/// Runs the command for an event, which it finds in its environment.
async fn execute(exec: &[OsString], event: &Event, revision: i64) -> Result<(), Failure> {
    let kv = event.kv.clone().unwrap_or_default();
    let kind = match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    };
    let status = tokio::process::Command::new(&exec[0])
        .args(&exec[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", go::quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", go::quote(&kv.key))
        .env("ETCD_WATCH_VALUE", go::quote(&kv.value))
        .status()
        .await;
    let error = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match status.code() {
            Some(code) => format!("exit status {code}"),
            None => status.to_string(),
        },
        Err(_) => {
            let name = go::quote(exec[0].as_bytes());
            format!("exec: {name}: executable file not found in $PATH")
        }
    };
    let words: Vec<String> = exec.iter().map(|word| go::quote(word.as_bytes())).collect();
    eprintln!("command [{}] error ({error})", words.join(" "));
    Err(Failure::silent())
}

/// `watch -i`: each line starts a watch of its own or asks for progress.
async fn interactive(global: Global, progress_notify: bool) -> Result<(), Failure> {
    let session = Session::new(global).await?;
    let stream = session.watching_client().await?.watch_stream();
    let mut lines = stdin_lines();
    let (fail, mut failed) = mpsc::channel::<Failure>(1);
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            failure = failed.recv() => return failure.map_or(Ok(()), Err),
        };
        let Some(line) = line else {
            return Err(Failure::invalid_input("error reading watch request line: EOF"));
        };
        let shown = String::from_utf8_lossy(&line);
        let words = argify(&line)?;
        match words.first().map(Vec::as_slice) {
            None => eprintln!("Invalid command: {shown} (watch and progress supported)"),
            Some(b"progress") => stream.request_progress()?,
            Some(b"watch") => {
                let Some(plan) = line_plan(&words, &shown, progress_notify)? else { continue };
                let (stream, printer, fail) = (stream.clone(), session.printer, fail.clone());
                tokio::spawn(async move {
                    let outcome = follow(&stream, plan.request, &plan.exec, printer).await;
                    if let Err(failure) = outcome {
                        let _ = fail.send(failure).await;
                    }
                });
            }
            Some(_) => eprintln!("Invalid command {shown} (only support watch)"),
        }
    }
}

/// Two dashes stand before the command to run; ones before the key only end the flags and are
/// taken out.
fn without_key_separator(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let dashes = words.iter().position(|word| word == b"--").unwrap_or(words.len());
    let (before, after) = words.split_at(dashes);
    match parse_line(before) {
        Some(WatchLine { watch }) if watch.args.is_empty() => {
            before.iter().chain(after.iter().skip(1)).cloned().collect()
        }
        _ => words.to_vec(),
    }
}

/// The watch of an interactive line; `None` if it is refused, which has been said.
fn line_plan(
    words: &[Vec<u8>],
    shown: &str,
    progress_notify: bool,
) -> Result<Option<Plan>, Failure> {
    if words.last().is_some_and(|last| last == b"--") {
        return Err(Failure::bad_args(NO_COMMAND));
    }
    if words.len() < 2 && std::env::var_os(ENV_KEY).is_none() {
        eprintln!("Invalid command {shown} (command type or key is not provided)");
        return Ok(None);
    }
    let words = without_key_separator(&words[1..]);
    let Some(WatchLine { watch: mut flags }) = parse_line(&words) else {
        eprintln!("Invalid command {shown} (unknown flag)");
        return Ok(None);
    };
    flags.progress_notify = progress_notify;
    match plan(flags) {
        Ok(plan) => Ok(Some(plan)),
        Err(failure) => {
            eprintln!("Invalid command {shown} ({})", failure.text());
            Ok(None)
        }
    }
}

/// Lines of standard input, read by a thread because reading blocks. Ends with the input.
fn stdin_lines() -> mpsc::Receiver<Vec<u8>> {
    let (send, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            match std::io::stdin().lock().read_until(b'\n', &mut line) {
                Ok(_) if line.pop() == Some(b'\n') => {}
                _ => return,
            }
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<Plan> {
        let words = argify(text.as_bytes()).expect("the line is well formed");
        line_plan(&words, text, false).expect("no separator at the end")
    }

    #[test]
    fn lines_of_an_interactive_watch() {
        let plan = line("watch --prev-kv -- foo bar -- echo 'x y'").expect("a watch");
        assert_eq!(
            (&plan.request.key[..], &plan.request.range_end[..]),
            (&b"foo"[..], &b"bar"[..])
        );
        assert_eq!(plan.exec, ["echo", "x y"]);
        assert!(plan.request.prev_kv);
        let plan = line("watch --prefix --rev=3 foo").expect("a watch");
        assert_eq!((&plan.request.range_end[..], plan.request.start_revision), (&b"fop"[..], 3));
        assert!(line("watch").is_none() && line("watch x y --prefix").is_none());
        let words = argify(b"watch foo --").expect("well formed");
        assert_eq!(line_plan(&words, "", false).err().expect("refused").message(), NO_COMMAND);
    }
}
