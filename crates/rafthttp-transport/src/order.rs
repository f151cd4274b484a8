//! Order at the receiver: what comes late on an abandoned connection is not delivered any more.
//!
//! A sender that gives up a stream goes on with a `POST`, and the receiver may read the `POST`
//! while bytes of the stream still wait in its socket. Each stream and each `POST` therefore says
//! its place in the order, and the receiver takes nothing from before the last place it has taken.

use std::collections::VecDeque;

use etcdrs_types::MemberId;
use http::HeaderValue;
use parking_lot::Mutex;

/// Runs of a sender that are remembered as over.
const PAST_RUNS_MAX: usize = 8;

/// The place of a stream or `POST` among all of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Drawn anew each time the sender starts to send to this receiver.
    pub(crate) run: u64,
    /// Streams so far.
    pub(crate) stream: u64,
    /// `POST`s so far; 0 for a stream itself.
    pub(crate) post: u64,
}

/// Whose place it is: a header that was damaged on the way may name another member, whose order
/// would be spoilt for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) from: MemberId,
    pub(crate) to: MemberId,
}

/// A text that is no place, or not of this way.
#[derive(Debug)]
pub(crate) struct NoPlace;

impl Place {
    /// The header, with a checksum over the place and its way.
    pub(crate) fn header(self, way: Way) -> HeaderValue {
        let place = format!("{:x}.{:x}.{:x}", self.run, self.stream, self.post);
        let text = format!("{place}.{:08x}", checksum(&place, way));
        HeaderValue::from_str(&text).expect("hex digits and dots are a header value")
    }

    pub(crate) fn parse(text: &str, way: Way) -> Result<Self, NoPlace> {
        let (place, sum) = text.rsplit_once('.').ok_or(NoPlace)?;
        if u32::from_str_radix(sum, 16).ok() != Some(checksum(place, way)) {
            return Err(NoPlace);
        }
        let mut parts = place.split('.').map(|part| u64::from_str_radix(part, 16));
        let mut next = || parts.next().and_then(Result::ok).ok_or(NoPlace);
        let place = Self { run: next()?, stream: next()?, post: next()? };
        if parts.next().is_some() { Err(NoPlace) } else { Ok(place) }
    }
}

fn checksum(place: &str, way: Way) -> u32 {
    let Way { from, to } = way;
    crc32c::crc32c(format!("{place} {from} {to}").as_bytes())
}

/// Lets the messages of a lane through in their order.
#[derive(Default)]
pub(crate) struct Gate(Mutex<Newest>);

/// Invariant: the run of `place` is not among `past_runs`.
#[derive(Default)]
struct Newest {
    place: Option<Place>,
    past_runs: VecDeque<u64>,
}

impl Gate {
    /// Calls `deliver`, unless something that was sent later has been delivered; whether it did.
    /// Deliveries of a lane never overlap.
    pub(crate) fn pass(&self, place: Place, deliver: impl FnOnce()) -> bool {
        let mut newest = self.0.lock();
        match newest.place {
            _ if newest.past_runs.contains(&place.run) => return false,
            Some(known) if known.run == place.run && place < known => return false,
            Some(known) if known.run != place.run => {
                newest.past_runs.push_back(known.run);
                if newest.past_runs.len() > PAST_RUNS_MAX {
                    newest.past_runs.pop_front();
                }
            }
            _ => {}
        }
        newest.place = Some(place);
        deliver();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(run: u64, stream: u64, post: u64) -> Place {
        Place { run, stream, post }
    }

    #[test]
    fn a_place_is_read_only_on_its_own_way() {
        let way = Way { from: MemberId(1), to: MemberId(2) };
        let one = place(u64::MAX, 0x1f, 0);
        let header = one.header(way);
        let text = header.to_str().unwrap();
        assert!(text.starts_with("ffffffffffffffff.1f.0."), "{text}");
        assert_eq!(Place::parse(text, way).unwrap(), one);
        for other in [Way { from: MemberId(3), ..way }, Way { to: MemberId(3), ..way }] {
            assert!(Place::parse(text, other).is_err(), "{other:?}");
        }
        for at in 0..text.len() {
            let mut damaged = text.as_bytes().to_vec();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(Place::parse(&damaged, way).is_err(), "{damaged}");
        }
        for bad in ["", "1.2", "1.2.3", "1.2.3.4", "1.2.x.0"] {
            assert!(Place::parse(bad, way).is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn check(places: &[Place], want: &[bool]) {
        let gate = Gate::default();
        let got: Vec<bool> = places.iter().map(|place| gate.pass(*place, || {})).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn nothing_passes_after_what_follows_it() {
        let order =
            [place(1, 0, 1), place(1, 0, 2), place(1, 1, 0), place(1, 1, 0), place(1, 1, 3)];
        check(&order, &[true; 5]);
        // The rest of a stream behind the POST that followed it; a POST behind the stream.
        check(&[place(1, 1, 0), place(1, 1, 3), place(1, 1, 0)], &[true, true, false]);
        check(&[place(1, 2, 0), place(1, 1, 3)], &[true, false]);
    }

    #[test]
    fn a_sender_that_starts_again_is_heard_and_its_past_is_not() {
        check(&[place(1, 5, 0), place(9, 1, 0), place(1, 5, 1)], &[true, true, false]);
    }
}
