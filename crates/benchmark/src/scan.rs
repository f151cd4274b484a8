//! Reading single fields of an encoded message without decoding it.
//!
//! Watch answers come by the million; a decoder would cost the load generator more than receiving
//! them does.

/// A field of a message as it lies in the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number.
    Varint(u64),
    /// A string, bytes, or an embedded message.
    Bytes(&'a [u8]),
}

/// Calls `each` with the number and content of every field; stops at the first malformed one.
pub fn fields<'a>(mut message: &'a [u8], mut each: impl FnMut(u64, Field<'a>)) {
    while let Some((key, rest)) = varint(message) {
        message = rest;
        match key & 7 {
            0 => {
                let Some((value, rest)) = varint(message) else { return };
                each(key >> 3, Field::Varint(value));
                message = rest;
            }
            2 => {
                let Some((length, rest)) = varint(message) else { return };
                let Some((content, rest)) = rest.split_at_checked(length as usize) else { return };
                each(key >> 3, Field::Bytes(content));
                message = rest;
            }
            _ => return,
        }
    }
}

/// The last value of a numeric field; 0 if it is absent.
pub fn number(message: &[u8], field: u64) -> u64 {
    let mut found = 0;
    fields(message, |n, content| {
        if let (true, Field::Varint(value)) = (n == field, content) {
            found = value;
        }
    });
    found
}

/// The last value of a field of bytes; empty if it is absent.
pub fn bytes(message: &[u8], field: u64) -> &[u8] {
    let mut found: &[u8] = &[];
    fields(message, |n, content| {
        if let (true, Field::Bytes(value)) = (n == field, content) {
            found = value;
        }
    });
    found
}

/// How often a field occurs.
pub fn count(message: &[u8], field: u64) -> u64 {
    let mut found = 0;
    fields(message, |n, _| found += u64::from(n == field));
    found
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcdrs_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use etcdrs_proto::mvccpb::{Event, KeyValue};
    use prost::Message as _;

    #[test]
    fn fields_are_found_in_an_encoded_message() {
        let kv = KeyValue { value: "v".into(), ..Default::default() };
        let response = WatchResponse {
            header: Some(ResponseHeader { revision: 300, ..Default::default() }),
            created: true,
            events: vec![Event::default(), Event { kv: Some(kv), ..Default::default() }],
            ..Default::default()
        };
        let encoded = response.encode_to_vec();
        assert_eq!(number(bytes(&encoded, 1), 3), 300);
        assert_eq!((number(&encoded, 3), number(&encoded, 4)), (1, 0));
        assert_eq!(count(&encoded, 11), 2);
        assert_eq!(bytes(bytes(bytes(&encoded, 11), 2), 5), b"v");
    }

    #[test]
    fn malformed_messages_end_the_scan() {
        assert_eq!(count(&[0x0a, 0xff, 0x01], 1), 0);
        assert_eq!(count(&[0xff; 12], 1), 0);
    }
}
