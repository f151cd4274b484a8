//! Carries the bytes of one connection, each direction under the rules of its path.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Link;
use crate::random::Random;

const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way in one direction; then the sender is held back.
const PIECES: usize = 64;

/// Waits until the path is not cut.
pub(super) async fn open(link: &Link) {
    // The network outlives its connections, so the sender is there.
    let _ = link.path.subscribe().wait_for(|path| !path.cut).await;
}

/// Makes the end of a stream a reset.
pub(super) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Carries bytes until both sides are done, one breaks, or the connection is reset.
pub(super) async fn join(
    mut dialler: TcpStream,
    mut listener: TcpStream,
    there: &Link,
    back: &Link,
    seed: u64,
) -> Result<()> {
    dialler.set_nodelay(true)?;
    listener.set_nodelay(true)?;
    let broken = {
        let (dialler_read, dialler_write) = dialler.split();
        let (listener_read, listener_write) = listener.split();
        let both = async {
            tokio::try_join!(
                carry(dialler_read, listener_write, there, Random::new(seed)),
                carry(listener_read, dialler_write, back, Random::new(seed + 1))
            )
        };
        tokio::select! {
            ended = both => ended.is_err(),
            () = was_reset(there) => true,
            () = was_reset(back) => true,
        }
    };
    if broken {
        reset(&dialler);
        reset(&listener);
    }
    Ok(())
}

async fn was_reset(link: &Link) {
    let mut path = link.path.subscribe();
    let before = path.borrow().resets;
    let _ = path.wait_for(|path| path.resets != before).await;
}

async fn carry(
    mut read: ReadHalf<'_>,
    mut write: WriteHalf<'_>,
    link: &Link,
    mut random: Random,
) -> std::io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        let is_overtaken = random.one_in(2);
        let mut due = Instant::now();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let count = read.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            piece.truncate(count);
            let path = *link.path.borrow();
            damage(&mut piece, path.damaged_one_in, &mut random);
            let overtaken = if is_overtaken { path.overtaken } else { Duration::ZERO };
            let late = path.delay + overtaken + part_of(path.jitter, &mut random);
            // Bytes of a stream never overtake each other.
            due = due.max(Instant::now() + late);
            if sender.send((due, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            send(&mut write, &piece, link).await?;
        }
        write.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Writes a piece, as slowly as the path says, and not while it is cut.
async fn send(write: &mut WriteHalf<'_>, piece: &[u8], link: &Link) -> std::io::Result<()> {
    let mut rest = piece;
    while !rest.is_empty() {
        open(link).await;
        let rate = link.path.borrow().bytes_per_second;
        let mut count = rest.len();
        if rate > 0 {
            // A hundredth of a second's worth at a time.
            count = count.min((rate / 100).max(1) as usize);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        write.write_all(&rest[..count]).await?;
        link.passed.fetch_add(count as u64, Ordering::SeqCst);
        rest = &rest[count..];
    }
    Ok(())
}

fn damage(piece: &mut [u8], one_in: u64, random: &mut Random) {
    if one_in == 0 {
        return;
    }
    for byte in piece {
        if random.one_in(one_in) {
            *byte ^= 1 << random.below(8);
        }
    }
}

fn part_of(most: Duration, random: &mut Random) -> Duration {
    let millis = most.as_millis() as u64;
    Duration::from_millis(random.below(millis + 1))
}
