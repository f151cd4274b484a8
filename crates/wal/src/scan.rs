//! Walks the frames of one segment with a buffer of bounded size.

use std::io;

use etcdrs_platform::File;

use crate::error::Damage;
use crate::record::{LENGTH_BYTES, Length, is_zero};

/// How much is read at once, unless one record is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// What lies at a place where a frame may begin.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// The bytes between length field and padding.
    Record(&'a [u8]),
    /// The end of the file, exactly at the end of a frame.
    End,
    /// Preallocated space.
    Zeros,
    /// The file ends inside a frame.
    Short,
    /// Nothing that a writer or a power loss makes.
    Damaged(Damage),
}

/// Reads frames one after the other.
#[derive(Debug)]
pub(crate) struct Scanner<F: File> {
    file: F,
    file_bytes: u64,
    /// Where the next frame begins.
    next: u64,
    buffer: Vec<u8>,
    /// Where in the file `buffer` begins.
    buffer_at: u64,
}

impl<F: File> Scanner<F> {
    pub(crate) fn new(file: F) -> io::Result<Self> {
        let file_bytes = file.len()?;
        Ok(Self { file, file_bytes, next: 0, buffer: Vec::new(), buffer_at: 0 })
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.next
    }

    /// Looks at the next frame and moves behind it if it is whole.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        let at = self.next;
        let left = self.file_bytes - at;
        if left == 0 {
            return Ok(Step::End);
        }
        if left < LENGTH_BYTES as u64 {
            return Ok(Step::Short);
        }
        let field = self.bytes(at, LENGTH_BYTES)?;
        let field = u64::from_le_bytes(field.try_into().expect("asked for eight bytes"));
        let length = match Length::from_field(field) {
            Ok(None) => return Ok(Step::Zeros),
            Ok(Some(length)) => length,
            Err(damage) => return Ok(Step::Damaged(damage)),
        };
        // What a record may have is what the file has: a fixed limit would make large legal
        // entries unreadable (storage-and-raft.md §1.13, "10 MB limit").
        if length.frame_bytes() > left {
            return Ok(Step::Short);
        }
        self.next = at + length.frame_bytes();
        let body_bytes = usize::try_from(length.record_bytes + length.padding_bytes)
            .map_err(io::Error::other)?;
        let record_bytes = usize::try_from(length.record_bytes).map_err(io::Error::other)?;
        let body = self.bytes(at + LENGTH_BYTES as u64, body_bytes)?;
        let (record, padding) = body.split_at(record_bytes);
        if !is_zero(padding) {
            return Ok(Step::Damaged(Damage::Padding));
        }
        Ok(Step::Record(record))
    }

    /// Whether everything from the next frame to the end of the file is zero.
    pub(crate) fn rest_is_zero(&mut self) -> io::Result<bool> {
        let mut at = self.next;
        while at < self.file_bytes {
            let n = usize::try_from((self.file_bytes - at).min(CHUNK_BYTES as u64))
                .expect("a chunk fits in memory");
            if !is_zero(self.bytes(at, n)?) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// The `n` bytes at `at`, which the file must have.
    fn bytes(&mut self, at: u64, n: usize) -> io::Result<&[u8]> {
        let buffered_to = self.buffer_at + self.buffer.len() as u64;
        if at < self.buffer_at || at + n as u64 > buffered_to {
            let left = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
            // The length is kept, so that the buffer is zeroed once and not for every chunk.
            self.buffer.resize(n.max(CHUNK_BYTES).min(left), 0);
            self.buffer_at = at;
            if let Err(err) = self.file.read_exact_at(&mut self.buffer, at) {
                self.buffer.clear();
                return Err(err);
            }
        }
        let from = usize::try_from(at - self.buffer_at).expect("the buffer is in memory");
        Ok(&self.buffer[from..from + n])
    }
}
