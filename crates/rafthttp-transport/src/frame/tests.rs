//! Tests of frames.

use super::*;

fn frames_of(encoder: &mut Encoder) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = encoder.pop() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// Three messages, the last one large enough not to be copied, and a heartbeat.
fn sample() -> (Vec<Bytes>, Vec<u8>) {
    let messages =
        vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; COPY_BYTES_MAX + 1])];
    let mut encoder = Encoder::default();
    encoder.push(Kind::Heartbeat, &Bytes::new());
    for message in &messages {
        encoder.push(Kind::Message, message);
    }
    let remaining = encoder.remaining();
    let bytes = frames_of(&mut encoder);
    assert_eq!(bytes.len(), remaining);
    (messages, bytes)
}

/// Feeds `bytes` in pieces and returns the messages before the first error.
fn decode(bytes: &[u8], piece_bytes: usize) -> (Vec<Bytes>, Result<bool, FrameError>) {
    let mut decoder = Decoder::new(PAYLOAD_BYTES_MAX);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        decoder.feed(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next() {
                Ok(Some(frame)) if frame.kind == Kind::Message => messages.push(frame.payload),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, Ok(decoder.is_empty()))
}

#[test]
fn frames_survive_every_cut() {
    let (messages, bytes) = sample();
    for piece_bytes in [1, 2, 3, 11, 12, 13, 14, 15, 16, 27, 28, 1000, 20_000, bytes.len()] {
        assert_eq!(decode(&bytes, piece_bytes), (messages.clone(), Ok(true)), "{piece_bytes}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_in_its_own_frame() {
    let (messages, bytes) = sample();
    // All headers, the small payloads, and a few bytes of the large one.
    for at in (0..bytes.len()).filter(|at| *at < 100 || at % 997 == 0) {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let (before, result) = decode(&damaged, 4096);
            assert!(result.is_err(), "byte {at}, bit {bit}");
            assert_eq!(before, messages[..before.len()], "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_cut_frame_is_not_whole() {
    let (_, bytes) = sample();
    assert_eq!(decode(&bytes[..bytes.len() - 1], 4096).1, Ok(false));
    assert_eq!(decode(&bytes[..5], 4096).1, Ok(false));
}

/// T26: refused by its header, before there is memory for it.
#[test]
fn t26_a_frame_over_the_limit_is_refused() {
    let mut head = header(Kind::Message, b"");
    let length = u32::try_from(PAYLOAD_BYTES_MAX + 1).unwrap();
    head[..4].copy_from_slice(&length.to_be_bytes());
    let check = head_check(&head[..9]);
    head[9..].copy_from_slice(&check);
    let mut decoder = Decoder::new(PAYLOAD_BYTES_MAX);
    decoder.feed(Bytes::copy_from_slice(&head));
    let error = FrameError::TooLarge { bytes: PAYLOAD_BYTES_MAX + 1, max: PAYLOAD_BYTES_MAX };
    assert_eq!(decoder.next(), Err(error));
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut head = header(Kind::Message, b"");
    head[8] = 99;
    let check = head_check(&head[..9]);
    head[9..].copy_from_slice(&check);
    assert_eq!(decode(&head, 12).1, Err(FrameError::Kind(99)));
}

#[test]
fn large_payloads_are_not_copied() {
    let large = Bytes::from(vec![1; COPY_BYTES_MAX + 1]);
    let mut encoder = Encoder::default();
    encoder.push(Kind::Message, &large);
    let pieces: Vec<Bytes> = std::iter::from_fn(|| encoder.pop()).collect();
    assert_eq!(pieces[1].as_ptr(), large.as_ptr());
    let whole = Bytes::from(pieces.concat());
    let range = whole.as_ptr_range();
    let mut decoder = Decoder::new(PAYLOAD_BYTES_MAX);
    decoder.feed(whole);
    let payload = decoder.next().unwrap().unwrap().payload;
    assert!(range.contains(&payload.as_ptr()));
}

/// FORMAT.md's example.
#[test]
fn the_layout_is_the_documented_one() {
    let mut encoder = Encoder::default();
    encoder.push(Kind::Message, &Bytes::from_static(b"123456789"));
    let bytes = frames_of(&mut encoder);
    assert_eq!(bytes[..9], [0, 0, 0, 9, 0xe3, 0x06, 0x92, 0x83, 1]);
    assert_eq!(bytes[12..], *b"123456789");
}
