//! A connection on a socket.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::http2::{self, Connection, Event};

/// Room for one read; the largest frame fits many times.
const READ: usize = 256 * 1024;

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or the network is gone.
    #[error("{endpoint}: {source}")]
    Socket {
        /// Host and port.
        endpoint: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server closed the connection without a word.
    #[error("{0}: the server closed the connection")]
    Closed(String),
    /// The conversation broke down.
    #[error("{endpoint}: {source}")]
    Http2 {
        /// Host and port.
        endpoint: String,
        /// What went wrong.
        source: http2::Error,
    },
}

/// A connection with its socket.
#[derive(Debug)]
pub struct Io {
    /// The calls on it.
    pub connection: Connection,
    /// What happened since the caller last emptied this.
    pub events: Vec<Event>,
    endpoint: String,
    socket: TcpStream,
    input: Vec<u8>,
    have: usize,
}

impl Io {
    /// Connects to `endpoint`: host and port, with or without `http://`.
    ///
    /// # Errors
    /// When that fails within `timeout` (zero: no limit of ours).
    pub async fn connect(
        endpoint: &str,
        token: Option<String>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let endpoint = endpoint.strip_prefix("http://").unwrap_or(endpoint).to_string();
        let failed = |source| Error::Socket { endpoint: endpoint.clone(), source };
        let connecting = TcpStream::connect(&endpoint);
        let socket = if timeout.is_zero() {
            connecting.await
        } else {
            let late = || std::io::Error::new(ErrorKind::TimedOut, "dial time-out");
            tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(late()))
        };
        let socket = socket.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        Ok(Self {
            connection: Connection::new(endpoint.clone(), token),
            events: Vec::new(),
            endpoint,
            socket,
            input: vec![0; READ],
            have: 0,
        })
    }

    /// Writes what is to be written, then waits until the peer sends something or `until`, and
    /// takes in what came.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn turn(&mut self, until: Option<Instant>) -> Result<(), Error> {
        self.write()?;
        let interest = if self.connection.out().is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let ready = self.socket.ready(interest);
        match until {
            None => drop(ready.await),
            Some(until) => drop(tokio::time::timeout_at(until.into(), ready).await),
        }
        self.read()
    }

    fn write(&mut self) -> Result<(), Error> {
        while !self.connection.out().is_empty() {
            match self.socket.try_write(self.connection.out()) {
                Ok(n) => drop(self.connection.out().drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Error> {
        loop {
            match self.socket.try_read(&mut self.input[self.have..]) {
                Ok(0) => return Err(Error::Closed(self.endpoint.clone())),
                Ok(n) => {
                    let filled = self.have + n == READ;
                    self.have += n;
                    let used = self.connection.feed(&self.input[..self.have], &mut self.events);
                    let broken = |source| Error::Http2 { endpoint: self.endpoint.clone(), source };
                    let used = used.map_err(broken)?;
                    self.input.copy_within(used..self.have, 0);
                    self.have -= used;
                    // A short read emptied the socket; asking again would be a wasted call.
                    if !filled {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Socket { endpoint: self.endpoint.clone(), source }
    }
}
