//! `cargo xtask cluster`: members on this machine, started together and torn down together.
//!
//! The layout is the one of deploy/: names etcd-node-0, 1, 2, client ports 2379, 12379, 22379, peer
//! ports one above, token `tkn`. With `--netns` each member has a network namespace, an address and
//! a cable of its own, which `cut` pulls out and `heal` plugs in again.
//!
//! Invariants: what was started is ended by its own process id when this ends, also by a signal;
//! nothing outside the data folder and namespaces of its own is touched.

mod lan;
mod layout;
mod members;

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use lan::Lan;
use layout::Layout;
use members::Members;

const HELP: &str = "\
usage: cargo xtask cluster [options] [-- flags of every member]

  --members N      how many (default 3, at most 7)
  --base-port P    client port of the first (default 2379); each next one is 10000 higher,
                   peer ports are one above
  --dir DIR        data and logs (default target/cluster)
  --keep           leave the data at the end, and go on with what is there at the start
  --bin PROGRAM    what to start (default: this workspace, built with --release)
  --netns          each member in a network namespace of its own (needs root and ip)
  --print          only print the command lines, as in deploy/Procfile

It runs until Ctrl-C or SIGTERM. Meanwhile it takes commands, one a line:

  kill N, start N  end member N by SIGKILL; start it again
  cut N, heal N    with --netns: pull out its cable; plug it in
";

/// How long members may take to stop in order before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

struct Options {
    layout: Layout,
    dir: PathBuf,
    keep: bool,
    program: Option<PathBuf>,
    netns: bool,
    print: bool,
}

/// What the task reacts to.
enum Event {
    /// A signal, SIGCHLD among them.
    Signal(i32),
    /// A member told that it serves.
    Ready(usize),
    /// A line of standard input.
    Line(String),
}

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let Some(options) = parse(root, args)? else { return Ok(()) };
    if options.print {
        print!("{}", options.layout.procfile("etcd"));
        return Ok(());
    }
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build(root)?,
    };
    ensure!(program.is_file(), "{} is not a program", program.display());
    let (sender, events) = mpsc::channel();
    // Before anything is started: from here on a signal means tearing down.
    watch_signals(sender.clone())?;
    let lan = options.netns.then(|| Lan::new(&options.layout)).transpose()?;
    let layout = match &lan {
        Some(lan) => lan.place(&options.layout),
        None => {
            options.layout.check_ports()?;
            options.layout.clone()
        }
    };
    let mut members = Members::new(layout, program, &options.dir, options.keep)?;
    members.listen(&sender)?;
    watch_lines(sender);
    let result = serve(&mut members, lan.as_ref(), &events);
    println!("stopping");
    let stopped = members.stop(STOP_LIMIT, &events);
    drop(lan);
    members.clean(options.keep)?;
    result.and(stopped)
}

fn serve(members: &mut Members, lan: Option<&Lan>, events: &Receiver<Event>) -> anyhow::Result<()> {
    members.start_all(lan)?;
    print!("{}", members.describe());
    flush();
    let mut waiting = members.count();
    loop {
        match events.recv().context("every source of events is gone")? {
            Event::Signal(SIGCHLD) => {
                members.report_ended()?;
                ensure!(members.running() > 0 || waiting == 0, "no member came up");
            }
            Event::Signal(_) => return Ok(()),
            Event::Ready(index) => {
                println!("{} is ready", members.name(index));
                waiting = waiting.saturating_sub(1);
                if members.all_ready_once(index) {
                    println!(
                        "all {} members are ready; try:\n  {}",
                        members.count(),
                        members.hint(lan)
                    );
                }
            }
            Event::Line(line) => {
                if let Err(error) = obey(&line, members, lan) {
                    println!("{error:#}");
                }
            }
        }
        flush();
    }
}

/// Does what a line of standard input says.
fn obey(line: &str, members: &mut Members, lan: Option<&Lan>) -> anyhow::Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [verb, number] = words.as_slice() else {
        ensure!(words.is_empty(), "expected kill, start, cut or heal, and a number");
        return Ok(());
    };
    let index: usize = number.parse().with_context(|| format!("{number:?} is no number"))?;
    ensure!(index < members.count(), "there is no member {index}");
    let cable = || lan.context("cut and heal need --netns");
    match *verb {
        "kill" => members.kill(index)?,
        "start" => members.start(index, lan)?,
        "cut" => cable()?.cut(index)?,
        "heal" => cable()?.heal(index)?,
        other => bail!("{other:?}: expected kill, start, cut or heal"),
    }
    println!("{}: {verb} done", members.name(index));
    Ok(())
}

fn parse(root: &Path, args: &[String]) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        layout: Layout::default(),
        dir: root.join("target/cluster"),
        keep: false,
        program: None,
        netns: false,
        print: false,
    };
    let (mut count, mut base) = (3, 2379);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--members" => count = value()?.parse().context("--members")?,
            "--base-port" => base = value()?.parse().context("--base-port")?,
            "--dir" => options.dir = value()?.into(),
            "--keep" => options.keep = true,
            "--bin" => options.program = Some(value()?.into()),
            "--netns" => options.netns = true,
            "--print" => options.print = true,
            "--" => {
                options.layout.flags = args.by_ref().cloned().collect();
            }
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            other => bail!("unknown option {other:?}\n{HELP}"),
        }
    }
    options.layout.place_on_loopback(count, base)?;
    options.dir = std::path::absolute(&options.dir)?;
    Ok(Some(options))
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", "etcdrs-server", "--bin", "etcd-rs"]);
    ensure!(cargo.current_dir(root).status()?.success(), "the release build failed");
    Ok(root.join("target/release/etcd-rs"))
}

fn watch_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The thread ends with the process: a read of a terminal cannot be called off.
fn watch_lines(events: Sender<Event>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
}

/// Whoever reads from a pipe sees each line when it is true.
fn flush() {
    // A reader that went away is no reason to leave members behind.
    let _ = std::io::stdout().flush();
}
