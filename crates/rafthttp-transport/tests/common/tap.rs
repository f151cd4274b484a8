//! A way to a port that can be frozen, slowed down and cut.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Default)]
struct Rule {
    frozen: bool,
    /// How long each kilobyte takes, microseconds.
    us_per_kib: u64,
    /// Connections that are older than this are cut.
    cuts: u64,
}

/// Passes connections on to a port.
pub struct Tap {
    pub url: String,
    rule: watch::Sender<Rule>,
    /// Connections so far.
    pub opened: watch::Receiver<usize>,
}

impl Tap {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (rule, rules) = watch::channel(Rule::default());
        let (count, opened) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                count.send_modify(|count| *count += 1);
                tokio::spawn(join(near, port, rules.clone()));
            }
        });
        Self { url, rule, opened }
    }

    /// Lets nothing pass, as a network does that loses every packet; or lets everything pass again.
    pub fn freeze(&self, frozen: bool) {
        self.rule.send_modify(|rule| rule.frozen = frozen);
    }

    /// Makes each kilobyte take so many microseconds, in each direction of each connection.
    pub fn slow(&self, us_per_kib: u64) {
        self.rule.send_modify(|rule| rule.us_per_kib = us_per_kib);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.rule.send_modify(|rule| rule.cuts += 1);
    }
}

async fn join(near: TcpStream, port: u16, mut rules: watch::Receiver<Rule>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = pass(near_read, far_write, rules.clone());
    let back = pass(far_read, near_write, rules.clone());
    let cuts = rules.borrow().cuts;
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = rules.wait_for(|rule| rule.cuts != cuts) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut rules: watch::Receiver<Rule>) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut piece).await {
            Ok(read) if read > 0 => read,
            _ => return,
        };
        let Ok(rule) = rules.wait_for(|rule| !rule.frozen).await.map(|rule| *rule) else { return };
        let pause = Duration::from_micros(rule.us_per_kib * (read as u64).div_ceil(1024));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}
