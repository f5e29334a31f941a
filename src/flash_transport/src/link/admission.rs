//! Limits the number of connections, in all and per address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::link::limits::ServerLimits;

#[derive(Debug)]
pub(crate) struct AdmissionControl {
    most: usize,
    most_of_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Holds no zeros.
    of_address: HashMap<IpAddr, usize>,
}

/// The decision on a new connection.
pub(crate) enum Admission {
    /// Accept it; hold the permit until it ends.
    Permit(Permit),
    /// Half of the room is taken: the client must first prove its address (a QUIC Retry), so that
    /// forged addresses cannot take the rest.
    ProveAddress,
    Full,
}

impl AdmissionControl {
    pub fn new(limits: &ServerLimits) -> Arc<Self> {
        Arc::new(Self {
            most: limits.connections,
            most_of_address: limits.connections_of_address,
            taken: Mutex::default(),
        })
    }

    pub fn taken(&self) -> usize {
        self.lock().all
    }

    pub fn admit(self: &Arc<Self>, address: SocketAddr, is_proven: bool) -> Admission {
        let address = network_of(address.ip());
        let mut taken = self.lock();
        let of_address = taken.of_address.get(&address).copied().unwrap_or(0);
        if !is_proven && (taken.all >= self.most / 2 || of_address >= self.most_of_address / 2) {
            return Admission::ProveAddress;
        }
        if taken.all >= self.most || of_address >= self.most_of_address {
            return Admission::Full;
        }
        taken.all += 1;
        taken.of_address.insert(address, of_address + 1);
        Admission::Permit(Permit {
            control: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's share of the limits; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    control: Arc<AdmissionControl>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.control.lock();
        taken.all -= 1;
        match taken.of_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.of_address.remove(&self.address);
            }
        }
    }
}

/// The network of an address. Limits count an IPv6 /64 as one address, because its owner has 2^64
/// of them.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(most: usize, most_of_address: usize) -> Arc<AdmissionControl> {
        let mut limits = ServerLimits::default();
        (limits.connections, limits.connections_of_address) = (most, most_of_address);
        AdmissionControl::new(&limits)
    }

    fn take(control: &Arc<AdmissionControl>, address: &str) -> Option<Permit> {
        match control.admit(format!("{address}:1").parse().unwrap(), true) {
            Admission::Permit(permit) => Some(permit),
            Admission::ProveAddress | Admission::Full => None,
        }
    }

    #[test]
    fn one_address_cannot_take_every_permit() {
        let control = control(4, 2);
        let greedy: Vec<_> = (0..4).map(|_| take(&control, "10.0.0.1")).collect();
        assert_eq!(greedy.iter().flatten().count(), 2);
        let _other = take(&control, "10.0.0.2").unwrap();
        let _third = take(&control, "10.0.0.3").unwrap();
        assert!(take(&control, "10.0.0.4").is_none(), "it is full");
        drop(greedy);
        assert_eq!(control.taken(), 2);
        assert!(take(&control, "10.0.0.1").is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_and_ipv4_is_ipv4_either_way() {
        let control = control(8, 1);
        let _first = take(&control, "[2001:db8::1]").unwrap();
        assert!(take(&control, "[2001:db8::2]").is_none());
        let _other = take(&control, "[2001:db8:0:1::1]").unwrap();
        let _mapped = take(&control, "[::ffff:10.0.0.1]").unwrap();
        assert!(take(&control, "10.0.0.1").is_none());
    }

    #[test]
    fn who_cannot_prove_an_address_takes_half_of_the_room_at_most() {
        let control = control(8, 4);
        let ask = |address: &str| control.admit(format!("{address}:1").parse().unwrap(), false);
        let mut held = Vec::new();
        for _ in 0..2 {
            let Admission::Permit(permit) = ask("10.0.0.1") else {
                panic!()
            };
            held.push(permit);
        }
        assert!(matches!(ask("10.0.0.1"), Admission::ProveAddress));
        held.extend(take(&control, "10.0.0.1"));
        let Admission::Permit(_permit) = ask("10.0.0.2") else {
            panic!()
        };
        assert!(matches!(ask("10.0.0.3"), Admission::ProveAddress));
    }
}
