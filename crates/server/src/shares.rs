//! How much of something each may have at a time, where all of it is bounded anyway.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// Counts what each holds, and gives nobody more than a share.
pub struct Shares<K> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One that is held until it is dropped.
pub struct Share<K: Eq + Hash> {
    key: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub fn of(most: usize) -> Shares<K> {
        Shares { most, held: Arc::default() }
    }

    /// `None` if this one holds as many as anybody may.
    pub fn take(&self, key: K) -> Option<Share<K>> {
        let mut held = self.held.lock().expect("counting does not panic");
        let count = held.entry(key.clone()).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { key, held: self.held.clone() })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().expect("counting does not panic");
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// Whom an address stands for. Of an IPv6 address the network, because whoever has one address of it has them all; `None`
/// for this machine, where everybody who comes through a proxy or a tunnel has the same one.
pub fn outsider(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(IpAddr::V6((u128::from(address) >> 64 << 64).into())),
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_a_share_and_what_is_dropped_is_free_again() {
        let shares = Shares::of(2);
        let (first, second) = (shares.take("a"), shares.take("a"));
        assert!(first.is_some() && second.is_some() && shares.take("a").is_none());
        assert!(shares.take("b").is_some(), "another's share");
        drop(first);
        assert!(shares.take("a").is_some());
        drop(second);
        assert!(shares.held.lock().unwrap().is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn a_network_is_one_outsider_and_this_machine_is_none() {
        let whom = |address: &str| outsider(address.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(whom("127.0.0.1"), None);
        assert_eq!(whom("::1"), None);
        assert_eq!(whom("::ffff:127.0.0.1"), None);
        assert_eq!(whom("::ffff:10.0.0.7"), Some("10.0.0.7".into()));
        assert_eq!(whom("2001:db8:1:2:3:4:5:6"), Some("2001:db8:1:2::".into()));
    }
}
