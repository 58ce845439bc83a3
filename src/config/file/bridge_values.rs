//! Parses the values of keywords for bridges. An error is a description of what was expected.

use std::net::IpAddr;

use crate::protocol::codec::{ProtocolVersion, QoS};
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::settings::{BridgeTopic, Direction, QueueDrop, Reload, RemoteAddress};

use super::hosts;
use super::pending::{DEFAULT_PORT, PendingRestart, StartType};
use super::values::{comment_starts, is_blank};

pub(super) const ADDRESSES: &str = "one or more addresses, each as HOST or HOST:PORT";

/// Parses the addresses of the other broker, up to a comment.
pub(super) fn addresses(text: &str) -> Result<Vec<RemoteAddress>, &'static str> {
    let words = text.split(is_blank).filter(|word| !word.is_empty());
    let addresses: Result<Vec<_>, _> = words.take_while(|word| !comment_starts(word)).map(address).collect();
    addresses.and_then(|addresses| if addresses.is_empty() { Err(ADDRESSES) } else { Ok(addresses) })
}

fn address(word: &str) -> Result<RemoteAddress, &'static str> {
    const EXPECTED: &str =
        "the name or the address of a host, and optionally a port, as in broker.example.org:1883";
    hosts::address(word, DEFAULT_PORT, EXPECTED)
}

pub(super) const TOPIC: &str =
    "a pattern, and optionally out, in or both, a QoS, a local prefix and a remote prefix";

/// Parses a rule for topics.
pub(super) fn topic(text: &str) -> Result<BridgeTopic, &'static str> {
    let words = quoted_words(text)?;
    let mut words = words.iter().map(|word| &**word);
    let pattern = words.next().ok_or(TOPIC)?;
    let direction = words.next().map_or(Ok(Direction::Out), direction)?;
    let qos = words.next().map_or(Ok(QoS::AtMostOnce), qos)?;
    let (local_prefix, remote_prefix) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if words.next().is_some() {
        return Err("nothing after the remote prefix; a topic with a space is written in quotes");
    }
    for prefix in [local_prefix, remote_prefix] {
        if !prefix.is_empty() && TopicName::new(prefix).is_err() {
            return Err("prefixes that are topics without '+' and '#'");
        }
    }
    if pattern.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) {
        return Err("both prefixes with an empty pattern, which renames one topic");
    }
    check_filter(local_prefix, pattern)?;
    check_filter(remote_prefix, pattern)?;
    Ok(BridgeTopic {
        pattern: pattern.into(),
        direction,
        qos,
        local_prefix: local_prefix.into(),
        remote_prefix: remote_prefix.into(),
    })
}

/// Checks what both brokers are subscribed to. A Shared Subscription cannot exclude the bridge's own messages
/// [MQTT-3.8.3-4].
fn check_filter(prefix: &str, pattern: &str) -> Result<(), &'static str> {
    let filter = format!("{prefix}{pattern}");
    if filter.starts_with("$share/") {
        return Err("a pattern without $share, since a bridge cannot share a subscription");
    }
    match TopicFilter::new(&filter) {
        Ok(_) => Ok(()),
        Err(_) => Err(
            "prefixes and a pattern that form topic filters, in which '+' is a whole level and '#' the last one",
        ),
    }
}

/// The words of a rule up to a comment. A word in quotes may contain spaces and may be empty.
fn quoted_words(text: &str) -> Result<Vec<Box<str>>, &'static str> {
    let mut words: Vec<Box<str>> = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() && (words.is_empty() || !comment_starts(rest)) {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a closing quote")?,
            None => rest.split_once(is_blank).unwrap_or((rest, "")),
        };
        words.push(word.into());
        rest = after.trim_start_matches(is_blank);
    }
    Ok(words)
}

fn direction(word: &str) -> Result<Direction, &'static str> {
    match word.to_ascii_lowercase().as_str() {
        "out" => Ok(Direction::Out),
        "in" => Ok(Direction::In),
        "both" => Ok(Direction::Both),
        _ => Err("out, in or both after the pattern"),
    }
}

fn qos(word: &str) -> Result<QoS, &'static str> {
    match word {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("a QoS of 0, 1 or 2 after the direction"),
    }
}

pub(super) const RESTART: &str = "a number of seconds, or the shortest and the longest wait, and optionally how long a stable connection lasts";

/// Parses how long a bridge waits before it connects again.
pub(super) fn restart(text: &str) -> Result<PendingRestart, &'static str> {
    match numbers(text).ok_or(RESTART)?[..] {
        [constant] => Ok(PendingRestart { base: constant, cap: None, stable: 0 }),
        [base, cap] => Ok(PendingRestart { base, cap: Some(cap), stable: 0 }),
        [base, cap, stable] if stable >= 0 => Ok(PendingRestart { base, cap: Some(cap), stable }),
        _ => Err(RESTART),
    }
}

pub(super) const TCP_KEEPALIVE: &str = "the seconds of silence before the first probe and between two, both at most 32767, and at \
     most 127 probes";

/// Parses the parameters of TCP keepalive. The bounds are those of Linux.
pub(super) fn tcp_keepalive(text: &str) -> Result<[u32; 3], &'static str> {
    let numbers = numbers(text).ok_or(TCP_KEEPALIVE)?;
    let [idle, interval, count] = numbers[..] else { return Err(TCP_KEEPALIVE) };
    let within = |number: i64, most: u32| u32::try_from(number).ok().filter(|&it| (1..=most).contains(&it));
    match (within(idle, 32_767), within(interval, 32_767), within(count, 127)) {
        (Some(idle), Some(interval), Some(count)) => Ok([idle, interval, count]),
        _ => Err(TCP_KEEPALIVE),
    }
}

/// The numbers in a text, up to a comment.
fn numbers(text: &str) -> Option<Vec<i64>> {
    let words = text.split(is_blank).filter(|word| !word.is_empty());
    let number = |word: &str| word.parse::<i32>().ok().map(i64::from);
    words.take_while(|word| !comment_starts(word)).map(number).collect()
}

/// Checks the name of a bridge, which is a part of topics.
pub(super) fn check_name(text: &str) -> Result<(), &'static str> {
    if text.contains(['+', '#']) { Err("a name without '+' and '#'") } else { Ok(()) }
}

pub(super) const VERSIONS: &str = "mqttv31, mqttv311 or mqttv50";

pub(super) fn version(text: &str) -> Result<ProtocolVersion, &'static str> {
    match text {
        "mqttv31" => Ok(ProtocolVersion::V31),
        "mqttv311" => Ok(ProtocolVersion::V311),
        "mqttv50" => Ok(ProtocolVersion::V5),
        _ => Err(VERSIONS),
    }
}

pub(super) const SESSION_EXPIRY: &str = "a number of seconds from 0 to 4294967295, which means for ever";

/// Parses a Session Expiry Interval, which may be hexadecimal.
pub(super) fn session_expiry(text: &str) -> Result<u32, &'static str> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| SESSION_EXPIRY)
}

pub(super) fn bind_address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "an IP address of this machine")
}

pub(super) const START_TYPES: &str = "automatic, lazy or once";

pub(super) fn start_type(text: &str) -> Result<StartType, &'static str> {
    match text {
        "automatic" => Ok(StartType::Automatic),
        "lazy" => Ok(StartType::Lazy),
        "once" => Ok(StartType::Once),
        "manual" => Err("automatic, lazy or once; manual is not supported, as in mosquitto"),
        _ => Err(START_TYPES),
    }
}

pub(super) const RELOADS: &str = "lazy or immediate";

pub(super) fn reload(text: &str) -> Result<Reload, &'static str> {
    match text {
        "lazy" => Ok(Reload::Lazy),
        "immediate" => Ok(Reload::Immediate),
        _ => Err(RELOADS),
    }
}

pub(super) const QUEUE_DROPS: &str = "oldest or newest";

pub(super) fn queue_drop(text: &str) -> Result<QueueDrop, &'static str> {
    match text {
        "oldest" => Ok(QueueDrop::Oldest),
        "newest" => Ok(QueueDrop::Newest),
        _ => Err(QUEUE_DROPS),
    }
}

pub(super) const NOTIFICATION_TOPIC: &str = "a topic without '+' and '#'";

pub(super) fn notification_topic(text: &str) -> Result<Box<str>, &'static str> {
    TopicName::new(text).map(|_| text.into()).map_err(|_| NOTIFICATION_TOPIC)
}

/// Parses the name of a protocol to negotiate. TLS limits its length.
pub(super) fn alpn(text: &str) -> Result<Box<str>, &'static str> {
    if text.len() > 255 { Err("at most 255 bytes") } else { Ok(text.into()) }
}

pub(super) const NO_OCSP: &str = "false";

/// Accepts only that OCSP is not required.
pub(super) fn expect_no_ocsp(text: &str) -> Result<(), &'static str> {
    match text {
        "false" | "0" => Ok(()),
        "true" | "1" => Err("false; OCSP is not supported, so certificates are not checked for revocation"),
        _ => Err(NO_OCSP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_ports() {
        let read = |text: &str| -> Vec<String> {
            let addresses = addresses(text).expect("it is valid");
            addresses.iter().map(|address| format!("{} {}", address.host, address.port)).collect()
        };
        assert_eq!(read("a.example b:8883 10.0.0.1:1"), ["a.example 1883", "b 8883", "10.0.0.1 1"]);
        assert_eq!(read("h # a:0"), ["h 1883"], "the rest is a comment");
        for (text, expected) in [
            ("::1", "::1 1883"),
            ("::1:8883", "::1 8883"),
            ("2001:db8::5", "2001:db8::5 1883"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8 1883"),
            ("[::1]", "::1 1883"),
            ("[fe80::1%eth0]:8883", "fe80::1%eth0 8883"),
        ] {
            assert_eq!(read(text), [expected]);
        }
        for wrong in ["", "# h", ":1883", "h:", "h:0", "h:65536", "h:+1", "h:x", "mqtt://h", "mqtt://h:1883"]
        {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
        for wrong in ["u:p@h", "[h]", "[::1", "a b:0", "h:1:2", "1.2.3.4%eth0"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_has_up_to_five_words() {
        let read = |text: &str| {
            let BridgeTopic { pattern, direction, qos, local_prefix, remote_prefix } =
                topic(text).expect("it is valid");
            format!("{pattern}|{direction:?}|{}|{local_prefix}|{remote_prefix}", qos.level())
        };
        assert_eq!(read("#"), "#|Out|0||");
        assert_eq!(read("a/+ IN"), "a/+|In|0||");
        assert_eq!(read("a both 2 l/ r/"), "a|Both|2|l/|r/");
        assert_eq!(read("a out 1 \"\" r/"), "a|Out|1||r/");
        assert_eq!(read("\"\" in 1 l r"), "|In|1|l|r");
        assert_eq!(read("\"a b/#\" out 0 \"c d/\"\t\"\""), "a b/#|Out|0|c d/|");
        assert_eq!(read("# out 1 # upwards"), "#|Out|1||");
        assert_eq!(read("+/x out 0 l/"), "+/x|Out|0|l/|");
        let of_words = ["", "a up", "a out 3", "a out -1", "a out x", "\"a", "a out 0 l r more"];
        let of_prefixes = ["a out 0 +/", "a out 0 \"\" \"#\"", "\"\"", "\"\" out 0 l", "\"\" out 0 \"\" r"];
        let of_filters = ["a# out", "# out 0 l", "a/#/b", "$share/g/a in"];
        for wrong in of_words.iter().chain(&of_prefixes).chain(&of_filters) {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
        assert!(topic("share/g/a in 0 \"\" $").is_err(), "a prefix does not hide it");
        let deep = "a/".repeat(150);
        assert!(topic(&format!("{deep}# out 0 {deep}")).is_err(), "too many levels together");
    }

    #[test]
    fn waits_are_numbers_of_seconds() {
        let read = |text: &str| restart(text).map(|it| (it.base, it.cap, it.stable)).ok();
        assert_eq!(read("20"), Some((20, None, 0)));
        assert_eq!(read("10 60"), Some((10, Some(60), 0)));
        assert_eq!(read("10 60 30 # stable"), Some((10, Some(60), 30)));
        for wrong in ["", "x", "1 x", "1 2 -3", "1 2 3 4", "99999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn probes_are_three_numbers() {
        assert_eq!(tcp_keepalive("60 10 3"), Ok([60, 10, 3]));
        for wrong in ["60", "60 10", "60 10 3 4", "0 10 3", "60 -1 3", "40000 1 1", "1 1 128", "a b c"] {
            assert!(tcp_keepalive(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_session_may_last_for_ever() {
        assert_eq!(
            ["0", "4294967295", "0xFFFFFFFF"].map(session_expiry),
            [Ok(0), Ok(u32::MAX), Ok(u32::MAX)]
        );
        for wrong in ["-1", "4294967296", "0x", "0x100000000", "1d"] {
            assert!(session_expiry(wrong).is_err(), "{wrong}");
        }
    }
}
