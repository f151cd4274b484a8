//! Runs the differential test from the command line.
//!
//! ```text
//! differential --seed 7 --steps 5000
//! differential --seed 7 --ours http://127.0.0.1:2379 --theirs http://127.0.0.1:12379
//! ```
//!
//! Without addresses it starts both servers itself; with addresses both must be fresh and run with
//! `--max-txn-ops=6 --max-request-bytes=65536`.

use anyhow::{Context, Result, bail};
use etcdrs_tests::client::Clients;
use etcdrs_tests::differential;

#[derive(Default)]
struct Options {
    seed: u64,
    steps: usize,
    ours: Option<String>,
    theirs: Option<String>,
}

fn options() -> Result<Options> {
    let mut options = Options { seed: 1, steps: 2000, ..Default::default() };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--seed" => options.seed = value.parse()?,
            "--steps" => options.steps = value.parse()?,
            "--ours" => options.ours = Some(value),
            "--theirs" => options.theirs = Some(value),
            other => bail!("unknown flag {other}"),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = options()?;
    let report = match (&options.ours, &options.theirs) {
        (Some(ours), Some(theirs)) => {
            let (mut ours, mut theirs) =
                (Clients::connect(ours).await, Clients::connect(theirs).await);
            differential::run(&mut ours, &mut theirs, options.seed, options.steps).await?
        }
        (None, None) => differential::run_fresh(options.seed, options.steps).await?,
        _ => bail!("--ours and --theirs go together"),
    };
    println!("seed {}: {report:?}", options.seed);
    Ok(())
}
