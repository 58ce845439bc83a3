//! The servers that may be connected to, and how long to wait before the next attempt.

use std::fmt;

use crate::base::time::Duration;

/// The most servers that are remembered beside the configured ones.
const LEARNED_MAXIMUM: usize = 64;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
}

impl Address {
    /// Parses a host with a port. An address of IPv6 is in brackets. `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match in_brackets {
            Some(host) => Some(host).filter(|host| host.contains(':')),
            None => Some(host).filter(|host| !host.contains([':', '[', ']'])),
        }?;
        let is_of_host = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@');
        (!host.is_empty() && host.bytes().all(is_of_host)).then(|| Self { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

/// The limits of the wait between two attempts.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The longest wait before another server is tried, and the shortest after all of them have failed.
    pub least: Duration,
    /// The longest wait.
    pub most: Duration,
}

/// All servers, in an order that each node chooses for itself.
#[derive(Debug)]
pub struct Servers {
    all: Vec<Server>,
    /// The index of the current one.
    at: usize,
    /// How many attempts have failed since the last success or the last long wait.
    failed: usize,
    /// The last long wait since the last success.
    previous: Option<Duration>,
    retry: Retry,
    random: Random,
}

#[derive(Debug)]
struct Server {
    address: Address,
    is_configured: bool,
}

impl Servers {
    /// The configured servers, shuffled, so that not all nodes use the same one.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(addresses: &[Address], retry: Retry, seed: u64) -> Self {
        assert!(!addresses.is_empty(), "the configuration checks that there is a server");
        let mut random = Random(seed);
        let configured = |address: &Address| Server { address: address.clone(), is_configured: true };
        let mut all: Vec<Server> = addresses.iter().map(configured).collect();
        for last in (1..all.len()).rev() {
            all.swap(last, random.below(last as u64 + 1));
        }
        Self { all, at: 0, failed: 0, previous: None, retry, random }
    }

    /// The current server.
    pub fn current(&self) -> &Address {
        &self.all[self.at].address
    }

    /// Takes the addresses of other servers that one has named, in place of those that were named before. The current
    /// server remains.
    pub fn learn(&mut self, named: &[Box<str>]) {
        let named: Vec<Address> = named.iter().filter_map(|text| Address::parse(text)).collect();
        let current = self.current().clone();
        self.all.retain(|server| {
            server.is_configured || server.address == current || named.contains(&server.address)
        });
        for address in named {
            let learned = self.all.iter().filter(|server| !server.is_configured).count();
            if learned < LEARNED_MAXIMUM && self.all.iter().all(|server| server.address != address) {
                self.all.push(Server { address, is_configured: false });
            }
        }
        self.at = self.all.iter().position(|server| server.address == current).unwrap_or_default();
    }

    /// The current server has accepted the client.
    pub const fn succeeded(&mut self) {
        self.failed = 0;
        self.previous = None;
    }

    /// The current server cannot be used, or no longer: moves on to the next one. Returns how long to wait before it is
    /// tried: shortly, and longer each time that all have failed, but always a while.
    pub fn advance(&mut self) -> Duration {
        self.at = (self.at + 1) % self.all.len();
        self.failed += 1;
        let (least, most) = (self.retry.least.milliseconds().max(1), self.retry.most.milliseconds());
        if self.failed < self.all.len() {
            return Duration::from_milliseconds(self.random.up_to(least).max(1));
        }
        self.failed = 0;
        let previous = self.previous.map_or(least, Duration::milliseconds);
        let highest = previous.saturating_mul(3).min(most).max(least);
        let wait = Duration::from_milliseconds(least + self.random.up_to(highest - least));
        self.previous = Some(wait);
        wait
    }
}

/// Numbers that depend on a seed only, by SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        let number = self.next();
        most.checked_add(1).map_or(number, |end| number % end)
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: u16, seed: u64) -> Servers {
        let addresses: Vec<Address> = (1..=count).map(|port| Address { host: "a".into(), port }).collect();
        let retry =
            Retry { least: Duration::from_milliseconds(100), most: Duration::from_milliseconds(2_000) };
        Servers::new(&addresses, retry, seed)
    }

    #[test]
    fn addresses_have_a_port() {
        for text in ["a:1", "10.0.0.1:4222", "[::1]:4222", "a-b.example:65535"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "::1:4222",
            "[a]:1",
            "[]:1",
            "a b:1",
            "nats://a:1",
            "u@a:1",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_servers_are_tried_before_a_long_wait() {
        let mut servers = servers(3, 1);
        let mut waits = Vec::new();
        for _ in 0..50 {
            let mut tried = Vec::new();
            for attempt in 1..=3 {
                tried.push(servers.current().port);
                let wait = servers.advance().milliseconds();
                if attempt < 3 {
                    assert!(wait <= 100, "the next one is tried soon");
                } else {
                    waits.push(wait);
                }
            }
            tried.sort_unstable();
            assert_eq!(tried, [1, 2, 3]);
        }
        assert!(waits.iter().all(|wait| (100..=2_000).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|&wait| wait > 1_000), "{waits:?}");
        servers.succeeded();
        assert!(servers.advance().milliseconds() <= 100);
    }

    #[test]
    fn nodes_choose_different_servers_and_waits() {
        let first: Vec<u16> = (0..50).map(|seed| servers(3, seed).current().port).collect();
        assert!((1..=3).all(|port| first.contains(&port)), "{first:?}");
        let waits: Vec<_> = (0..50).map(|seed| servers(1, seed).advance()).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn named_servers_come_and_go_and_are_limited() {
        let mut servers = servers(1, 1);
        servers.learn(&["b:1".into(), "a:1".into(), "nonsense".into(), "b:1".into()]);
        assert_eq!(servers.all.len(), 2);
        servers.advance();
        assert_eq!(servers.current().to_string(), "b:1");
        servers.learn(&["c:1".into()]);
        assert_eq!(servers.all.len(), 3, "the current one remains");
        assert_eq!(servers.current().to_string(), "b:1");
        servers.advance();
        servers.learn(&[]);
        let many: Vec<Box<str>> = (1..1_000).map(|port| format!("d:{port}").into()).collect();
        servers.learn(&many);
        assert!(servers.all.len() <= LEARNED_MAXIMUM + 1);
        assert!(servers.all.iter().any(|server| server.is_configured));
    }
}
