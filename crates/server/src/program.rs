//! The program: configuration, runtime, signals, exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigError, Loaded};
use crate::logging;
use crate::server::{Server, StartError};

/// Runs the program with `arguments` (without its name) until a signal or a failure ends it.
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (String, String)>,
) -> ExitCode {
    let (config, notes) = match Config::load(arguments, environment) {
        Ok(Loaded::Run { config, notes }) => (*config, notes),
        Ok(Loaded::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error),
    };
    logging::install(&config);
    for (warning, note) in notes {
        if warning { tracing::warn!("{note}") } else { tracing::info!("{note}") }
    }
    if let Err(error) = etcdrs_platform::process::raise_file_descriptor_limit() {
        tracing::warn!(%error, "could not raise the limit of file descriptors");
    }
    // Raft, apply and the connections share one thread: on few cores a hand-over between threads
    // costs more than the work (engine.md §3.4).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("pool")
        .max_blocking_threads(8)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => {
            tracing::error!(%error, "could not start the runtime");
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    if matches!(error, ConfigError::Usage(_)) {
        eprintln!("Run 'etcd-rs --help' for the flags.");
    }
    ExitCode::from(error.exit_code())
}

/// In etcd's words, which operators look for (operations.md §2.12).
fn tell_removal() {
    tracing::error!(
        error = "the member has been permanently removed from the cluster",
        "server error"
    );
    tracing::error!("data-dir used by this member must be removed");
}

async fn serve(config: Config) -> ExitCode {
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "could not watch for signals");
            return ExitCode::FAILURE;
        }
    };
    let server = tokio::select! {
        server = Server::start(config) => server,
        _ = terminate.recv() => return ExitCode::from(128 + 15),
        _ = interrupt.recv() => return ExitCode::from(128 + 2),
    };
    let server = match server {
        Ok(server) => server,
        // No fault of the process, and nothing that another start would mend.
        Err(StartError::Removed) => {
            tell_removal();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            tracing::error!(%error, "failed to start etcd");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!("notifying init daemon");
    tell_supervisor(NotifyState::Ready);
    tracing::info!("successfully notified init daemon");
    let (name, number) = tokio::select! {
        _ = terminate.recv() => ("terminated", SIGTERM),
        _ = interrupt.recv() => ("interrupt", SIGINT),
        () = server.removed() => {
            tell_removal();
            tell_supervisor(NotifyState::Stopping);
            server.stop().await;
            return ExitCode::SUCCESS;
        }
        fatal = server.failed() => {
            // Nothing of this process can be trusted any more: no orderly stop.
            tracing::error!(error = %fatal, "etcd server failed");
            std::process::abort();
        }
    };
    tracing::info!(signal = name, "received signal; shutting down");
    tell_supervisor(NotifyState::Stopping);
    server.stop().await;
    // The process dies of the signal, as etcd does, so that its parent sees why it ended; process
    // 1 of a container cannot, and ends well.
    if std::process::id() != 1
        && let Err(error) = emulate_default_handler(number)
    {
        tracing::warn!(%error, "could not raise the signal again");
    }
    ExitCode::SUCCESS
}

/// Tells whoever set `NOTIFY_SOCKET`, as systemd does for `Type=notify`, how far this process is.
/// The socket takes a datagram without waiting; where there is none, nothing happens.
fn tell_supervisor(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "failed to notify systemd for readiness");
    }
}
