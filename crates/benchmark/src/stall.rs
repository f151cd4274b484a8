//! How long an operation on the whole store keeps others waiting.
//!
//! A probe puts a key every ten milliseconds while the operation runs. Beside it a control does
//! nothing but sleep and echo a byte, equally often: what delays the control too is the machine's
//! doing, not the server's, and is taken off.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use etcdrs_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, PutRequest, RangeRequest, SnapshotRequest,
};
use prost::Message as _;

use crate::clock::now;
use crate::http2::{Event, Keep};
use crate::io::Io;
use crate::report::{Recorder, Report};
use crate::run::{Error, Meter, Plan};
use crate::scan;

/// Between two probes.
const EVERY: Duration = Duration::from_millis(10);
/// Probing goes on at least this long, so that there is something to compare.
const AT_LEAST: Duration = Duration::from_secs(1);

/// What is done to the store while the probe runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// Nothing.
    None,
    /// Read all keys below `/bench/` in one answer.
    List,
    /// Compact to the present revision, and wait until the space is free.
    Compact,
    /// Defragment.
    Defragment,
    /// Take a snapshot.
    Snapshot,
}

/// Runs one operation beside probe and control.
///
/// # Errors
/// When a connection is lost or the server refuses the operation.
pub fn run(plan: &Plan, operation: Operation) -> Result<Report, Error> {
    let meter = Meter::start(plan)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (started_probe, ready) = mpsc::channel();
    let probe = {
        let (plan, stop) = (plan.clone(), Arc::clone(&stop));
        std::thread::spawn(move || block_on(probe(&plan, &stop, &started_probe)))
    };
    let control = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || control(&stop))
    };
    // An error here means that the probe could not start; joining it tells why.
    let _ = ready.recv();
    let begun = now();
    let result = block_on(operate(plan, operation));
    let took = begun.elapsed();
    let (_end, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(AT_LEAST.saturating_sub(took));
    stop.store(true, Ordering::Relaxed);
    let (probe, worst_probe) = probe.join().map_err(|_| Error::Panicked)??;
    let worst_control = control.join().map_err(|_| Error::Panicked)??;
    result?;

    let mut report = Report::new("stall", begun.elapsed(), vec![("put", probe)]);
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    report.extra.insert("operation seconds".into(), took.as_secs_f64());
    report.extra.insert("worst probe ms".into(), ms(worst_probe));
    report.extra.insert("worst control ms".into(), ms(worst_control));
    report.extra.insert("stall ms".into(), ms(worst_probe.saturating_sub(worst_control)));
    meter.finish(report, Vec::new())
}

fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

async fn operate(plan: &Plan, operation: Operation) -> Result<(), Error> {
    let mut io = Io::connect(&plan.endpoints[0], plan.token.clone(), plan.dial_timeout).await?;
    let maintenance = |name| match name {
        Operation::Defragment => "/etcdserverpb.Maintenance/Defragment",
        _ => "/etcdserverpb.Maintenance/Snapshot",
    };
    match operation {
        Operation::None => {}
        Operation::List => {
            let (key, range_end) = ("/bench/".into(), "/bench0".into());
            let list = RangeRequest { key, range_end, ..Default::default() }.encode_to_vec();
            call(&mut io, "/etcdserverpb.KV/Range", &list, Keep::Nothing).await?;
        }
        Operation::Compact => {
            let nothing = RangeRequest { key: "-".into(), ..Default::default() }.encode_to_vec();
            let answer = call(&mut io, "/etcdserverpb.KV/Range", &nothing, Keep::Last).await?;
            let revision = scan::number(scan::bytes(&answer, 1), 3) as i64;
            let compact = CompactionRequest { revision, physical: true }.encode_to_vec();
            call(&mut io, "/etcdserverpb.KV/Compact", &compact, Keep::Nothing).await?;
        }
        Operation::Defragment => {
            let request = DefragmentRequest {}.encode_to_vec();
            call(&mut io, maintenance(operation), &request, Keep::Nothing).await?;
        }
        Operation::Snapshot => {
            let request = SnapshotRequest {}.encode_to_vec();
            call(&mut io, maintenance(operation), &request, Keep::Nothing).await?;
        }
    }
    Ok(())
}

/// One call that nothing else goes on beside; gives the last message.
pub(crate) async fn call(
    io: &mut Io,
    path: &'static str,
    request: &[u8],
    keep: Keep,
) -> Result<Vec<u8>, Error> {
    io.connection.open(path, 0, keep, request, true);
    loop {
        io.turn(None).await?;
        for event in io.events.drain(..) {
            let Event::Closed { status, message, .. } = event else { continue };
            if status.ok() {
                return Ok(message);
            }
            return Err(Error::Server(format!("{path}: {} {}", status.code, status.message)));
        }
    }
}

async fn probe(
    plan: &Plan,
    stop: &AtomicBool,
    started: &mpsc::Sender<()>,
) -> Result<(Recorder, Duration), Error> {
    let mut io = Io::connect(&plan.endpoints[0], plan.token.clone(), plan.dial_timeout).await?;
    let put = PutRequest { key: "probe".into(), value: "v".into(), ..Default::default() };
    let put = put.encode_to_vec();
    let mut recorder = Recorder::default();
    let mut worst = Duration::ZERO;
    // The first call sets the connection up; it is no probe.
    call(&mut io, "/etcdserverpb.KV/Put", &put, Keep::Nothing).await?;
    let _ = started.send(());
    let mut due = now();
    while !stop.load(Ordering::Relaxed) {
        due = (due + EVERY).max(now());
        tokio::time::sleep_until(due.into()).await;
        call(&mut io, "/etcdserverpb.KV/Put", &put, Keep::Nothing).await?;
        let took = due.elapsed();
        recorder.success(took);
        worst = worst.max(took);
    }
    Ok((recorder, worst))
}

fn control(stop: &AtomicBool) -> Result<Duration, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let (_end, never) = mpsc::channel::<()>();
    let mut worst = Duration::ZERO;
    let mut due: Instant = now();
    while !stop.load(Ordering::Relaxed) {
        due = (due + EVERY).max(now());
        let _ = never.recv_timeout(due.saturating_duration_since(now()));
        near.write_all(&[1])?;
        near.read_exact(&mut [0])?;
        worst = worst.max(due.elapsed());
    }
    drop(near);
    echo.join().map_err(|_| Error::Panicked)?;
    Ok(worst)
}
