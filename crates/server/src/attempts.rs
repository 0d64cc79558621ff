//! How often somebody may try to sign in: a window of wrong passwords per account and per address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Wrong passwords are forgotten after so long.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// In a window, for one account whoever tries.
const PER_ACCOUNT: u32 = 10;
/// In a window, from one address whichever account is tried.
const PER_ADDRESS: u32 = 30;
/// Accounts and addresses that are remembered; more than this at a time is an attack that gets no turn at all.
const REMEMBERED: usize = 20_000;

#[derive(Default)]
pub struct Attempts {
    tried: Mutex<HashMap<Key, Tried>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Account(String),
    /// Of an IPv6 address the network, because whoever has one address of it has them all.
    Address([u8; 16]),
}

struct Tried {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// Counts the attempt before the password is looked at, so that many at once do not slip through together. The
    /// error is how long to wait.
    pub fn begin(&self, account: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut tried = self.tried.lock().expect("counting does not panic");
        if tried.len() >= REMEMBERED {
            tried.retain(|_, tried| now.duration_since(tried.since) < WINDOW);
        }
        let keys = [(Key::Account(account.to_owned()), PER_ACCOUNT), (Key::address(address), PER_ADDRESS)];
        let mut wait = Duration::ZERO;
        for (key, limit) in &keys {
            match tried.get(key) {
                Some(tried) if now.duration_since(tried.since) < WINDOW && tried.count >= *limit => {
                    wait = wait.max(WINDOW - now.duration_since(tried.since));
                }
                Some(_) => {}
                None if tried.len() >= REMEMBERED => wait = wait.max(WINDOW),
                None => {}
            }
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        for (key, _) in keys {
            let entry = tried.entry(key).or_insert(Tried { since: now, count: 0 });
            if now.duration_since(entry.since) >= WINDOW {
                *entry = Tried { since: now, count: 0 };
            }
            entry.count += 1;
        }
        Ok(())
    }

    /// The password was right: the account's slate is clean, and this attempt does not count against the address.
    pub fn succeeded(&self, account: &str, address: IpAddr) {
        let mut tried = self.tried.lock().expect("counting does not panic");
        tried.remove(&Key::Account(account.to_owned()));
        if let Some(address) = tried.get_mut(&Key::address(address)) {
            address.count = address.count.saturating_sub(1);
        }
    }
}

impl Key {
    fn address(address: IpAddr) -> Key {
        let mut bytes = match address.to_canonical() {
            IpAddr::V4(address) => return Key::Address(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => address.octets(),
        };
        bytes[8..].fill(0);
        Key::Address(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_and_an_address_have_so_many_wrong_passwords_in_a_window() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..PER_ACCOUNT {
            attempts.begin("ana", here, start).unwrap();
        }
        let wait = attempts.begin("ana", there, start + Duration::from_secs(60)).unwrap_err();
        assert_eq!(wait, WINDOW - Duration::from_secs(60), "from another address too");
        for other in PER_ACCOUNT..PER_ADDRESS {
            attempts.begin(&format!("user{other}"), here, start).unwrap();
        }
        assert!(attempts.begin("ben", here, start).is_err());
        attempts.begin("ben", there, start).unwrap();
        attempts.begin("ana", here, start + WINDOW).unwrap();
    }

    #[test]
    fn a_right_password_clears_the_account_but_not_what_the_address_did_before() {
        let attempts = Attempts::default();
        let (now, here) = (Instant::now(), address("::1"));
        for round in 0..PER_ADDRESS / 2 {
            attempts.begin("ana", here, now).unwrap();
            attempts.succeeded("ana", here);
            attempts.begin(&format!("victim{round}"), here, now).unwrap();
        }
        for round in 0..PER_ADDRESS / 2 {
            attempts.begin(&format!("victim{round}"), here, now).unwrap();
        }
        assert!(attempts.begin("ana", here, now).is_err());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address_and_a_mapped_one_is_its_ipv4() {
        assert_eq!(Key::address(address("2001:db8::1")), Key::address(address("2001:db8::2")));
        assert_ne!(Key::address(address("2001:db8::1")), Key::address(address("2001:db8:0:1::1")));
        assert_eq!(Key::address(address("::ffff:10.0.0.1")), Key::address(address("10.0.0.1")));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for number in 0..2 * REMEMBERED as u32 {
            let _ = attempts.begin(&number.to_string(), IpAddr::V4(number.into()), now);
        }
        assert!(attempts.tried.lock().unwrap().len() <= REMEMBERED + 1);
        attempts.begin("ana", address("10.0.0.1"), now + WINDOW).unwrap();
    }
}
