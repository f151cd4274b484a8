//! Bytes on sockets: requests no client of ours sends, servers that misbehave, a meddling proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Value of a header; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Headers as a member of the cluster sends them.
pub const GOOD: &[(&str, &str)] = &[
    ("X-Server-From", "b"),
    ("X-Server-Version", "3.7.1"),
    ("X-Min-Cluster-Version", "3.0.0"),
    ("X-Etcd-Cluster-ID", "c1"),
    ("X-Raft-To", "a"),
    ("X-Etcdrs-Format", "1"),
];

/// `GOOD` with some headers replaced; an empty value leaves one out.
pub fn good_but<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers: Vec<_> =
        GOOD.iter().filter(|(n, _)| changes.iter().all(|(c, _)| c != n)).copied().collect();
    headers.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    headers
}

pub async fn open(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "Connection: close\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    // A refusal may come, and the connection go, before the body is written.
    let _ = stream.write_all(body).await;
    stream
}

pub async fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = open(port, method, path, headers, body).await;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = all.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A frame by FORMAT.md.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    bytes.push(kind);
    let check = crc32c::crc32c(&bytes).to_be_bytes();
    bytes.extend_from_slice(&check[1..]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A peer that answers every request with `answer` and then keeps the connection open, silent.
/// Returns its port and the number of requests so far.
pub async fn fake_peer(answer: Vec<u8>) -> (u16, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or(0) > 0 {
                let _ = stream.write_all(&answer).await;
            }
            open.push(stream);
            count.send_modify(|count| *count += 1);
        }
    });
    (port, counted)
}

/// A place in the order from one member to another, with its checksum.
pub fn place(text: &str, from: u64, to: u64) -> String {
    let sum = crc32c::crc32c(format!("{text} {from:x} {to:x}").as_bytes());
    format!("{text}.{sum:08x}")
}

/// The head of a stream's answer from a member to member a, with one chunk of body after it.
pub fn stream_answer(from: u64, body: &[u8]) -> Vec<u8> {
    let place = place("1.1.0", from, 0xa);
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Etcdrs-Format: 1\r\nX-Etcdrs-Place: {place}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut bytes = head.as_bytes().to_vec();
    if !body.is_empty() {
        bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Passes connections on to a port, counts what comes back, and damages one byte of it.
#[derive(Clone)]
pub struct Proxy {
    pub url: String,
    /// Bytes still to pass from the server before one is damaged; `u64::MAX` for never.
    pub damage_after: Arc<AtomicU64>,
    /// The same for bytes to the server.
    pub damage_request_after: Arc<AtomicU64>,
    /// Times something came back from the server.
    pub reads: watch::Receiver<u64>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let damage_after = Arc::new(AtomicU64::new(u64::MAX));
        let damage_request_after = Arc::new(AtomicU64::new(u64::MAX));
        let (counter, reads) = watch::channel(0);
        let (answers, requests) = (damage_after.clone(), damage_request_after.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let (answers, requests, counter) =
                    (answers.clone(), requests.clone(), counter.clone());
                tokio::spawn(async move {
                    let (mut client_read, mut client_write) = client.into_split();
                    let (mut server_read, mut server_write) = server.into_split();
                    let count = || counter.send_modify(|reads| *reads += 1);
                    let there = pass(&mut client_read, &mut server_write, &requests, || {});
                    let back = pass(&mut server_read, &mut client_write, &answers, count);
                    // Either end closes both.
                    tokio::select! { () = there => {}, () = back => {} }
                });
            }
        });
        Self { url, damage_after, damage_request_after, reads }
    }
}

async fn pass(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    damage_after: &AtomicU64,
    read: impl Fn(),
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let left = damage_after.load(Ordering::SeqCst);
        if left < count as u64 {
            buffer[left as usize] ^= 0x10;
            damage_after.store(u64::MAX, Ordering::SeqCst);
        } else if left != u64::MAX {
            damage_after.store(left - count as u64, Ordering::SeqCst);
        }
        read();
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
