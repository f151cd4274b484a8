//! The connection against a peer made of bytes.

use super::*;

/// The answer of a server: headers, one message, trailers with `status`.
fn answer(id: u32, message: &[u8], status: &str) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut out = Vec::new();
    let mut block = Vec::new();
    encoder.encode(&[(":status", "200"), ("content-type", "application/grpc")], &mut block);
    frame(&mut out, HEADERS, END_HEADERS, id, &block);
    let mut data = VecDeque::new();
    push_message(&mut data, message);
    frame(&mut out, DATA, 0, id, data.make_contiguous());
    block.clear();
    encoder.encode(&[("grpc-status", status), ("grpc-message", "text")], &mut block);
    frame(&mut out, HEADERS, END_HEADERS | END_STREAM, id, &block);
    out
}

/// Frames as (kind, flags, stream, payload).
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let length = be32(&[0, bytes[0], bytes[1], bytes[2]]) as usize;
        all.push((bytes[3], bytes[4], be32(&bytes[5..]), bytes[9..9 + length].to_vec()));
        bytes = &bytes[9 + length..];
    }
    all
}

fn connected() -> Connection {
    let mut connection = Connection::new("localhost:1", None);
    connection.out().clear();
    connection
}

#[test]
fn a_connection_opens_with_preface_and_settings() {
    let mut connection = Connection::new("localhost:1", None);
    let out = connection.out().clone();
    let rest = out.strip_prefix(PREFACE).unwrap();
    let kinds: Vec<u8> = frames(rest).iter().map(|f| f.0).collect();
    assert_eq!(kinds, [SETTINGS, WINDOW_UPDATE]);
}

#[test]
fn a_call_is_answered_whole_or_byte_by_byte() {
    for step in [1, 7, 100_000] {
        let mut connection = connected();
        let id = connection.open("/a/B", 42, Keep::Last, b"request", true);
        let sent = frames(connection.out());
        assert_eq!((sent[0].0, sent[1].0, sent[1].1), (HEADERS, DATA, END_STREAM));
        assert_eq!(sent[1].3, b"\0\0\0\0\x07request");

        let input = answer(id, b"response", "0");
        let (mut events, mut held) = (Vec::new(), Vec::new());
        for chunk in input.chunks(step) {
            held.extend_from_slice(chunk);
            let used = connection.feed(&held, &mut events).unwrap();
            held.drain(..used);
        }
        let status = Status::new(0, "text");
        let message = b"response".to_vec();
        assert_eq!(events, [Event::Closed { tag: 42, status, message, bytes: 8 }]);
        assert_eq!(connection.active(), 0);
    }
}

#[test]
fn errors_carry_code_and_text() {
    let mut connection = connected();
    let id = connection.open("/a/B", 1, Keep::Nothing, b"", true);
    let mut events = Vec::new();
    connection.feed(&answer(id, b"x", "11"), &mut events).unwrap();
    let Event::Closed { status, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((status.code, status.message.as_str(), status.ok()), (11, "text", false));
}

#[test]
fn streams_beyond_the_limit_wait_their_turn() {
    let mut connection = connected();
    let mut settings = Vec::new();
    frame(&mut settings, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
    connection.feed(&settings, &mut Vec::new()).unwrap();
    connection.out().clear();

    let first = connection.open("/a/B", 1, Keep::Nothing, b"", true);
    let second = connection.open("/a/B", 2, Keep::Nothing, b"", true);
    assert!(frames(connection.out()).iter().all(|f| f.2 == first));
    connection.out().clear();
    connection.feed(&answer(first, b"", "0"), &mut Vec::new()).unwrap();
    assert!(frames(connection.out()).iter().all(|f| f.2 == second));
    assert_eq!(frames(connection.out()).len(), 2);
}

#[test]
fn a_large_message_waits_for_the_window() {
    let mut connection = connected();
    let id = connection.open("/a/B", 1, Keep::Nothing, &vec![7; 100_000], true);
    let sent = |c: &mut Connection| -> usize {
        let all = frames(c.out());
        c.out().clear();
        all.iter().filter(|f| f.0 == DATA).map(|f| f.3.len()).sum()
    };
    assert_eq!(sent(&mut connection), 65_535);
    let mut update = Vec::new();
    frame(&mut update, WINDOW_UPDATE, 0, 0, &1_000_000u32.to_be_bytes());
    connection.feed(&update, &mut Vec::new()).unwrap();
    assert_eq!(sent(&mut connection), 0, "the stream's own window is still shut");
    update.clear();
    frame(&mut update, WINDOW_UPDATE, 0, id, &1_000_000u32.to_be_bytes());
    connection.feed(&update, &mut Vec::new()).unwrap();
    assert_eq!(sent(&mut connection), 100_005 - 65_535);
}

#[test]
fn pings_are_answered_and_messages_of_a_stream_come_one_by_one() {
    let mut connection = connected();
    let id = connection.open("/a/Watch", 5, Keep::Each, b"create", false);
    connection.send(id, b"more");
    assert!(frames(connection.out()).iter().all(|f| f.1 & END_STREAM == 0 || f.0 != DATA));
    connection.out().clear();

    let mut input = Vec::new();
    frame(&mut input, PING, 0, 0, b"12345678");
    let mut data = VecDeque::new();
    push_message(&mut data, b"one");
    push_message(&mut data, b"two");
    frame(&mut input, DATA, 0, id, data.make_contiguous());
    let mut events = Vec::new();
    connection.feed(&input, &mut events).unwrap();
    let message = |m: &[u8]| Event::Message { tag: 5, message: m.to_vec() };
    assert_eq!(events, [message(b"one"), message(b"two")]);
    assert_eq!(frames(connection.out()), [(PING, ACK, 0, b"12345678".to_vec())]);
}

#[test]
fn broken_frames_end_the_connection() {
    let mut connection = connected();
    assert!(connection.feed(&[0xff; 9], &mut Vec::new()).is_err());
    let mut input = Vec::new();
    frame(&mut input, GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x02bye");
    let error = connected().feed(&input, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the server closes the connection: error 2 bye");
}
