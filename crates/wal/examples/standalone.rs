//! A log alone, without the rest of etcd-rs: append from several threads, lose nothing, reopen.
//!
//! `cargo run -p etcdrs-wal --example standalone`

use std::sync::mpsc;

use etcdrs_platform::OsFs;
use etcdrs_types::{LogIndex, Term};
use etcdrs_wal::{Batch, Entry, Metadata, Options, SnapshotMark, StartAt, Wal, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::temp_dir().join(format!("etcdrs-wal-example-{}", std::process::id()));
    let dir = parent.join("wal");
    let wal = Wal::create(OsFs, &dir, &Metadata::default(), Options::default())?;
    let writer = Writer::spawn(wal)?;

    // A thousand batches are submitted at once; a few syncs make them all durable.
    let (tell, told) = mpsc::channel();
    for index in 1..=1000 {
        let data = Some(format!("entry {index}").into());
        let entry = Entry { term: Term(1), index: LogIndex(index), data, ..Entry::default() };
        let tell = tell.clone();
        writer.submit(Batch::entries(vec![entry]), move |outcome| {
            // The receiver is gone only if the example is ending already.
            let _ = tell.send(outcome);
        });
    }
    drop(tell);
    for outcome in told {
        outcome?;
    }
    writer.close()?;

    let start = StartAt::Mark(SnapshotMark::default());
    let opened = Wal::open(OsFs, &dir, &start, Options::default())?;
    println!(
        "{} entries are back, the last is {:?}",
        opened.content.entries.len(),
        opened.content.entries.last()
    );
    drop(opened);
    std::fs::remove_dir_all(parent)?;
    Ok(())
}
