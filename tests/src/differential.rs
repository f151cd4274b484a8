//! The same random requests to two servers, and every answer compared.
//!
//! A run is fixed by its seed: the generator sees only the seed and the revisions that both
//! servers answered, which are equal until the first difference. What is left out or evened out,
//! with the reason, stands in [`normal`].

pub mod execute;
pub mod generate;
pub mod normal;

use anyhow::{Result, bail};

use crate::client::Clients;
use crate::mvccpb::Event;
use crate::request;
use crate::server::Setup;
use crate::target;
use crate::watch;
use execute::Answer;
use generate::Generator;

/// Limits of both servers, low enough that random requests exceed them now and then.
pub fn limits(setup: Setup) -> Setup {
    setup.flag("max-txn-ops", generate::MAX_TXN_OPS).flag("max-request-bytes", 65_536)
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests sent to each server.
    pub requests: usize,
    /// Requests both refused.
    pub refused: usize,
    /// The revision at the end.
    pub revision: i64,
}

/// Starts a fresh server of ours and a real etcd, and compares them.
pub async fn run_fresh(seed: u64, steps: usize) -> Result<Report> {
    let (ours, theirs) =
        tokio::join!(limits(Setup::new()).start(), limits(Setup::of(target::etcd())).start());
    run(&mut ours.clients().await, &mut theirs.clients().await, seed, steps).await
}

/// Compares two servers that hold the same data, best nothing.
pub async fn run(
    ours: &mut Clients,
    theirs: &mut Clients,
    seed: u64,
    steps: usize,
) -> Result<Report> {
    let mut generator = Generator::new(seed);
    let mut report = Report::default();
    for step in 0..steps {
        let wanted = generator.request();
        let (mut our, mut their) =
            tokio::join!(execute::send(ours, &wanted), execute::send(theirs, &wanted));
        normal::even_out(&wanted, &mut our);
        normal::even_out(&wanted, &mut their);
        if our != their {
            bail!(
                "seed {seed}, step {step}: the answers differ\nrequest: {wanted:#?}\n\
                 ours:    {our:#?}\ntheirs:  {their:#?}\n\
                 replay:  cargo run -p etcdrs-tests -- --seed {seed} --steps {}",
                step + 1
            );
        }
        report.requests += 1;
        report.refused += usize::from(matches!(our, Answer::Error(..)));
        generator.learn(&wanted, &our);
    }
    report.revision = generator.revision();
    compare_ends(ours, theirs, &generator).await?;
    Ok(report)
}

/// The whole keyspace at every readable revision, and all events since the last compaction.
async fn compare_ends(
    ours: &mut Clients,
    theirs: &mut Clients,
    generator: &Generator,
) -> Result<()> {
    let first = generator.compacted().max(1);
    for revision in (first..=generator.revision()).rev().take(200) {
        let all = crate::pb::RangeRequest { revision, ..request::range("\0", "\0") };
        let wanted = generate::Wanted::Range(all);
        let (mut our, mut their) =
            tokio::join!(execute::send(ours, &wanted), execute::send(theirs, &wanted));
        normal::even_out(&wanted, &mut our);
        normal::even_out(&wanted, &mut their);
        if our != their {
            bail!("at revision {revision} the data differ\nours: {our:#?}\ntheirs: {their:#?}");
        }
    }
    // A delete made at the compacted revision itself is kept by 3.7 and not by 3.5.1.
    let start = generator.compacted() + 1;
    let (our, their) =
        tokio::join!(history(ours, start, generator), history(theirs, start, generator));
    if our.len() != their.len() {
        bail!("history has {} events here and {} there", our.len(), their.len());
    }
    for (our, their) in our.iter().zip(&their) {
        if our != their {
            bail!("the histories differ\nours: {our:#?}\ntheirs: {their:#?}");
        }
    }
    Ok(())
}

/// Events with previous values from `start` to the newest revision.
async fn history(clients: &Clients, start: i64, generator: &Generator) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let newest = generator.revision();
    if newest < start.max(2) {
        return events;
    }
    let mut session = clients.watch();
    let create = watch::on_all(start.max(1));
    session.create(crate::pb::WatchCreateRequest { prev_kv: true, ..create }).await;
    let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    while events.last().map_or(0, of) < newest {
        events.extend(session.next().await.events);
    }
    events
}
