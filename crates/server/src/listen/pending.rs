//! A bound on the handshakes under way, so that clients who never finish theirs cost little.
//!
//! A newcomer is never refused: where there is no room, whoever has waited longest gives way. An
//! honest handshake is over in milliseconds and is never the oldest of so many; one that is there
//! for its own sake is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Most handshakes at once.
pub(crate) const TOTAL_MAX: usize = 4096;
/// Most handshakes at once from one address, or from one network of IPv6.
const ORIGIN_MAX: usize = 1024;
const _: () = assert!(ORIGIN_MAX < TOTAL_MAX, "one address must not push everybody else out");

/// The handshakes under way of a listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By age. Whose sender is dropped gives way.
    all: BTreeMap<u64, (Option<IpAddr>, oneshot::Sender<()>)>,
    /// The same by origin; no set is empty.
    by_origin: BTreeMap<Option<IpAddr>, BTreeSet<u64>>,
}

/// A place among the pending ones, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    table: Arc<Mutex<Table>>,
    kept: oneshot::Receiver<()>,
}

impl Pending {
    pub(crate) fn enter(&self, remote: Option<SocketAddr>) -> Place {
        let origin = remote.map(|remote| origin(remote.ip()));
        let (keep, kept) = oneshot::channel();
        let mut table = self.0.lock();
        let of_origin = table.by_origin.get(&origin);
        let oldest = match of_origin {
            Some(ids) if ids.len() >= ORIGIN_MAX => ids.first().copied(),
            _ if table.all.len() >= TOTAL_MAX => table.all.keys().next().copied(),
            _ => None,
        };
        if let Some(oldest) = oldest {
            table.remove(oldest);
        }
        let id = table.next;
        table.next += 1;
        table.all.insert(id, (origin, keep));
        table.by_origin.entry(origin).or_default().insert(id);
        Place { id, table: Arc::clone(&self.0), kept }
    }
}

/// Whoever has one address of an IPv6 network has them all.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        v4 => v4,
    }
}

impl Table {
    fn remove(&mut self, id: u64) {
        let Some((origin, _)) = self.all.remove(&id) else { return };
        if let Some(ids) = self.by_origin.get_mut(&origin) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_origin.remove(&origin);
            }
        }
    }
}

impl Place {
    /// Returns when this place is needed for somebody who came later.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent; the sender is dropped.
        let _ = (&mut self.kept).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn from(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().expect("an address"), 1))
    }

    fn is_lost(place: &mut Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_of_an_address_gives_way() {
        let pending = Pending::default();
        let mut other = pending.enter(from("10.0.0.2"));
        let mut places: Vec<Place> =
            (0..=ORIGIN_MAX).map(|_| pending.enter(from("10.0.0.1"))).collect();
        assert!(is_lost(&mut places[0]) && !is_lost(&mut places[1]) && !is_lost(&mut other));
        // One that is over makes room.
        drop(places.remove(5));
        places.push(pending.enter(from("10.0.0.1")));
        assert!(!is_lost(&mut places[1]));
        drop((places, other));
        let table = pending.0.lock();
        assert!(table.all.is_empty() && table.by_origin.is_empty());
    }

    #[test]
    fn the_oldest_of_all_gives_way_when_there_are_too_many() {
        let pending = Pending::default();
        let addresses = (0..u32::try_from(TOTAL_MAX).expect("small")).map(|n| {
            Some(SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 1))
        });
        let mut places: Vec<Place> = addresses.map(|remote| pending.enter(remote)).collect();
        assert!(!is_lost(&mut places[0]));
        let _new = pending.enter(from("10.9.9.9"));
        assert!(is_lost(&mut places[0]) && !is_lost(&mut places[1]));
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let of = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
