//! The same random requests to two servers, and every answer compared.
//!
//! A run is fixed by its seed: the generator sees only the seed and the revisions that both
//! servers answered, which are equal until the first difference. What is left out or evened out,
//! with the reason, stands in [`normal`].

pub mod execute;
pub mod generate;
pub mod normal;
pub mod watchers;

use anyhow::{Context, Result, bail};

use crate::client::Clients;
use crate::request;
use crate::server::Setup;
use crate::target;
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
    let mut live = watchers::Live::open(ours, theirs).await;
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
    live.compare(generator.revision()).await.with_context(|| format!("seed {seed}"))?;
    let history = watchers::compare_history(ours, theirs, &generator).await?;
    watchers::compare_random(ours, &history, seed).await.with_context(|| format!("seed {seed}"))?;
    Ok(report)
}

/// The whole keyspace at every readable revision.
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
    Ok(())
}
