//! A port at which a running process is told what its failpoints do.
//!
//! | request | does | answer |
//! |---|---|---|
//! | `GET /` | nothing | a line each: name, times passed, times it acted since it was armed, action or `-` |
//! | `PUT /<name>` | arms, with the body as the action | 204; 400 if that is no action |
//! | `DELETE /<name>` | disarms | how often it acted; 404 if it was not armed |

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{CONTROL_VARIABLE, registry};

/// No request is longer.
const REQUEST_BYTES_MAX: usize = 4096;
/// Whoever connects and says nothing does not hold up the next one for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens where `ETCD_RS_FAILPOINTS_HTTP` says, on a thread of its own that ends with the process.
/// Without the variable nothing happens.
///
/// # Errors
///
/// If the address is none, or in use.
pub fn serve_control() -> io::Result<Option<SocketAddr>> {
    let Ok(address) = std::env::var(CONTROL_VARIABLE) else { return Ok(None) };
    let listener = TcpListener::bind(&address)?;
    let bound = listener.local_addr()?;
    std::thread::Builder::new().name("failpoints".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // What goes wrong on a connection is for whoever made it.
            let _ = serve(stream);
        }
    })?;
    Ok(Some(bound))
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    let mut piece = [0; 512];
    let (code, body) = loop {
        if let Some((method, path, body)) = parse(&bytes) {
            break answer(&method, &path, &body);
        }
        let count = stream.read(&mut piece)?;
        if count == 0 || bytes.len() + count > REQUEST_BYTES_MAX {
            break (400, String::new());
        }
        bytes.extend_from_slice(&piece[..count]);
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code} -\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Method, path and body of a request; `None` while something is missing.
fn parse(bytes: &[u8]) -> Option<(String, String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = body.get(..length.unwrap_or(0))?.to_owned();
    Some((method, path, body))
}

/// Status and body for a request.
fn answer(method: &str, path: &str, body: &str) -> (u16, String) {
    let name = path.trim_start_matches('/');
    match method {
        "GET" if name.is_empty() => (200, told()),
        "PUT" if !name.is_empty() => match body.parse() {
            Ok(action) => {
                registry::set(name, action);
                (204, String::new())
            }
            Err(error) => (400, format!("{error}\n")),
        },
        "DELETE" => match registry::disarm(name) {
            Some(struck) => (200, struck.to_string()),
            None => (404, String::new()),
        },
        _ => (405, String::new()),
    }
}

fn told() -> String {
    let mut text = String::new();
    for (name, place) in registry::places() {
        let action = place.action.map_or("-".to_owned(), |action| action.to_string());
        // A string takes everything.
        let _ = writeln!(text, "{name} {} {} {action}", place.passed, place.struck);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_may_come_in_pieces() {
        let whole = b"PUT /a-b HTTP/1.1\r\nHost: x\r\ncontent-length: 8\r\n\r\nsleep(5)";
        assert!((0..whole.len()).all(|end| parse(&whole[..end]).is_none()));
        let (method, path, body) = parse(whole).unwrap();
        assert_eq!((&*method, &*path, &*body), ("PUT", "/a-b", "sleep(5)"));
        assert!(parse(b"GET / HTTP/1.1\r\n\r\n").is_some());
    }

    #[test]
    fn a_failpoint_is_armed_and_disarmed_on_request() {
        const NAME: &str = "platform-test-control";
        let path = format!("/{NAME}");
        let line = || told().lines().find(|line| line.starts_with(NAME)).map(str::to_owned);
        assert_eq!(answer("PUT", &path, "jump").0, 400);
        assert_eq!(line(), None);
        assert_eq!(answer("PUT", &path, "return(x)").0, 204);
        assert_eq!(registry::eval(NAME), Some(Some("x".to_owned())));
        assert_eq!(line().unwrap(), format!("{NAME} 1 1 return(x)"));
        assert_eq!(answer("DELETE", &path, ""), (200, "1".to_owned()));
        assert_eq!(answer("DELETE", &path, "").0, 404);
        assert_eq!(registry::eval(NAME), None);
        assert_eq!(line().unwrap(), format!("{NAME} 2 1 -"));
        // Armed again, it begins to count again.
        answer("PUT", &path, "sleep(0)");
        assert_eq!(line().unwrap(), format!("{NAME} 2 0 sleep(0)"));
        answer("PUT", &path, "off");
        assert_eq!(line().unwrap(), format!("{NAME} 2 0 -"));
        assert_eq!(answer("POST", &path, "").0, 405);
    }
}
