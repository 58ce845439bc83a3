//! Parses values other than switches, numbers and plain texts. An error is a description of what was expected.

use crate::base::time::Duration;
use crate::protocol::codec::QoS;
use crate::protocol::proxy::Proxy;
use crate::protocol::topic::TopicName;
use crate::settings::{Durability, Family, Given, LogDestination, LogKinds, Network, OnDamage};

use super::outcome::Place;
use super::pending::WEBSOCKET_HEADERS;

/// The lowest memory limit, in bytes: enough for the largest packet and some clients.
pub const MEMORY_LIMIT_MINIMUM: usize = 4 * 1024 * 1024;

/// Whether a character separates words.
pub(super) const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

/// Whether a word after the first one was probably meant to start a comment.
pub(super) fn comment_starts(word: &str) -> bool {
    word.starts_with('#')
}

/// Parses a number of bytes, which may have the unit K, M or G.
pub fn bytes(text: &str) -> Option<usize> {
    let (digits, unit) = match text.chars().next_back() {
        Some(letter @ ('K' | 'k')) => (text.strip_suffix(letter)?, 1 << 10),
        Some(letter @ ('M' | 'm')) => (text.strip_suffix(letter)?, 1 << 20),
        Some(letter @ ('G' | 'g')) => (text.strip_suffix(letter)?, 1 << 30),
        _ => (text, 1),
    };
    let count: usize =
        digits.parse().ok().filter(|_| digits.starts_with(|digit: char| digit.is_ascii_digit()))?;
    count.checked_mul(unit)
}

pub(super) const BYTES: &str = "a number of bytes, optionally with the unit K, M or G, or 0 for no limit";

pub(super) fn memory_limit(text: &str) -> Result<Option<usize>, &'static str> {
    let count = bytes(text).ok_or(BYTES)?;
    if (1..MEMORY_LIMIT_MINIMUM).contains(&count) {
        return Err(
            "at least 4M, which is enough for the largest packet and some clients, or 0 for no limit",
        );
    }
    Ok(Some(count).filter(|&count| count > 0))
}

/// Parses a whole number and a letter for seconds, hours, days, weeks, months of 30 days or years of 365 days. Returns
/// seconds, at most `u32::MAX`.
pub(super) fn expiration(text: &str) -> Result<u32, &'static str> {
    const UNITS: [(char, u64); 6] =
        [('s', 1), ('h', 3600), ('d', 86_400), ('w', 604_800), ('m', 2_592_000), ('y', 31_536_000)];
    let seconds = UNITS.iter().find_map(|&(letter, unit)| {
        let count: u64 = text.strip_suffix(letter)?.parse().ok()?;
        count.checked_mul(unit)
    });
    let seconds = seconds
        .filter(|&seconds| seconds > 0)
        .ok_or("a whole number above zero with the unit s, h, d, w, m (30 days) or y, such as '14d'")?;
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

pub(super) const SOCKET_MODE: &str = "permissions in octal, such as 0770";

/// Parses the permissions of a file.
pub(super) fn socket_mode(text: &str) -> Result<u32, &'static str> {
    let is_octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|&mode| is_octal && mode <= 0o777).ok_or(SOCKET_MODE)
}

pub(super) const LOG_DESTINATIONS: &str = "stdout, stderr, syslog, topic, none or 'file PATH'";

pub(super) fn log_destination(
    destinations: &mut Vec<Given<LogDestination>>,
    text: &str,
    place: &Place,
) -> Result<(), &'static str> {
    let (kind, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let destination = match kind {
        "none" => {
            destinations.clear();
            return Ok(());
        }
        "stderr" => LogDestination::StandardError,
        "stdout" => LogDestination::StandardOutput,
        "syslog" => LogDestination::Syslog(None),
        "topic" => LogDestination::Topic,
        "file" if rest.trim().is_empty() => return Err("the path of a file after 'file'"),
        "file" => {
            if destinations.iter().any(|there| matches!(there.value, LogDestination::File(_))) {
                return Err("only one file");
            }
            LogDestination::File(rest.trim().into())
        }
        "dlt" => return Err("stdout, stderr, syslog, topic, none or 'file PATH'; DLT is not supported"),
        _ => return Err(LOG_DESTINATIONS),
    };
    let destination = Given::at(place, destination);
    if !destinations.contains(&destination) {
        destinations.push(destination);
    }
    Ok(())
}

/// The word for a kind of lines, and its field.
type Kind = (&'static str, fn(&mut LogKinds) -> &mut bool);

/// The kinds of lines.
pub(super) static LOG_KINDS: &[Kind] = &[
    ("error", |kinds| &mut kinds.error),
    ("warning", |kinds| &mut kinds.warning),
    ("notice", |kinds| &mut kinds.notice),
    ("information", |kinds| &mut kinds.information),
    ("debug", |kinds| &mut kinds.debug),
    ("subscribe", |kinds| &mut kinds.subscribe),
    ("unsubscribe", |kinds| &mut kinds.unsubscribe),
    ("websockets", |kinds| &mut kinds.websockets),
    ("internal", |kinds| &mut kinds.internal),
];

pub(super) fn log_kind(kinds: &mut LogKinds, text: &str) -> Result<(), &'static str> {
    match (text, LOG_KINDS.iter().find(|(name, _)| *name == text)) {
        ("none", _) => *kinds = LogKinds::NONE,
        ("all", _) => *kinds = LogKinds::ALL,
        (_, Some((_, kind))) => *kind(kinds) = true,
        (_, None) => {
            return Err(
                "error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal, \
                 all or none",
            );
        }
    }
    Ok(())
}

pub(super) const DURABILITIES: &str = "always, everysec or none";

pub(super) fn durability(text: &str) -> Result<Durability, &'static str> {
    match text {
        "always" => Ok(Durability::Always),
        "everysec" => Ok(Durability::EverySecond),
        "none" => Ok(Durability::None),
        _ => Err(DURABILITIES),
    }
}

pub(super) const ON_DAMAGE: &str = "refuse or set_aside";

pub(super) fn on_damage(text: &str) -> Result<OnDamage, &'static str> {
    match text {
        "refuse" => Ok(OnDamage::Refuse),
        "set_aside" => Ok(OnDamage::SetAside),
        _ => Err(ON_DAMAGE),
    }
}

pub(super) const PROTOCOLS: &str = if cfg!(feature = "websocket") { "mqtt or websockets" } else { "mqtt" };

pub(super) fn is_websocket(text: &str) -> Result<bool, &'static str> {
    match text {
        "mqtt" => Ok(false),
        "websockets" => Ok(true),
        "http_api" if cfg!(feature = "websocket") => {
            Err("mqtt or websockets; the HTTP interface is not supported")
        }
        _ => Err(PROTOCOLS),
    }
}

pub(super) const FAMILIES: &str = "ipv4 or ipv6";

pub(super) fn family(text: &str) -> Result<Family, &'static str> {
    match text {
        "ipv4" => Ok(Family::V4),
        "ipv6" => Ok(Family::V6),
        _ => Err(FAMILIES),
    }
}

/// Parses the TLS version. Versions before 1.2 are accepted and mean 1.2. Their clients cannot connect, so this does
/// not weaken security.
pub(super) fn is_1_3_only(text: &str) -> Result<bool, &'static str> {
    match text {
        "tlsv1.3" => Ok(true),
        "tlsv1.2" | "tlsv1.1" | "tlsv1" => Ok(false),
        _ => Err("tlsv1.2 or tlsv1.3"),
    }
}

pub(super) fn expect_pem(text: &str) -> Result<(), &'static str> {
    if text == "pem" { Ok(()) } else { Err("pem; keys in engines are not supported") }
}

pub(super) const VERSIONS: &str = "a list of 3 (for 3.1), 4 (for 3.1.1) and 5 (for 5.0)";

pub(super) fn versions(text: &str) -> Result<[bool; 3], &'static str> {
    let mut versions = [false; 3];
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match word {
            "3" => versions[0] = true,
            "4" => versions[1] = true,
            "5" => versions[2] = true,
            _ => return Err(VERSIONS),
        }
    }
    if versions == [false; 3] { Err(VERSIONS) } else { Ok(versions) }
}

pub(super) const fn qos(number: i64) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub(super) const MOUNT_POINT: &str = "the start of a topic, without wildcards";

pub(super) fn mount_point(text: &str) -> Result<Box<str>, &'static str> {
    TopicName::new(text).map(|_| text.into()).map_err(|_| MOUNT_POINT)
}

pub(super) const SOURCE: &str = "an address or a network, such as 10.0.0.1 or 10.0.0.0/8";

pub(super) fn trusted_source(text: &str) -> Result<Network, &'static str> {
    Network::parse(text).ok_or(SOURCE)
}

/// Whether version 2 requires TLS is set by another keyword.
pub(super) const fn proxy(number: i64) -> Proxy {
    if number == 1 { Proxy::V1 } else { Proxy::V2 { requires_tls: false, requires_certificate: false } }
}

/// Parses the prefix of assigned Client Identifiers.
pub(super) fn auto_id_prefix(text: &str) -> Result<Box<str>, &'static str> {
    if text.len() > 50 { Err("at most 50 bytes") } else { Ok(text.into()) }
}

/// Parses the name of a listener.
pub(super) fn listener_name(text: &str) -> Result<Box<str>, &'static str> {
    if text.len() > 255 { Err("at most 255 bytes") } else { Ok(text.into()) }
}

/// Converts a number to a limit. Zero and negative numbers mean no limit.
pub(super) fn bound(number: i64) -> usize {
    usize::try_from(number).ok().filter(|&bound| bound > 0).unwrap_or(usize::MAX)
}

/// Converts a number that the table has limited to 0 to 65,535.
pub(super) fn u16_of(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Converts a number; zero and negative numbers mean the maximum.
pub(super) fn u16_or_all(number: i64) -> u16 {
    if number > 0 { u16_of(number) } else { u16::MAX }
}

/// Converts a number of seconds, which the table has limited to zero or more.
pub(super) fn seconds(number: i64) -> Duration {
    Duration::from_seconds(u64::try_from(number).unwrap_or_default())
}

/// Converts the maximum length in bytes of the HTTP request of a WebSocket. Zero means the default.
pub(super) fn websocket_headers(number: i64) -> usize {
    usize::try_from(number).ok().filter(|&bytes| bytes > 0).unwrap_or(WEBSOCKET_HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(["7", "4K", "2m", "1G"].map(bytes), [Some(7), Some(4096), Some(2 << 20), Some(1 << 30)]);
        for wrong in
            ["", "M", "-1", "+1", "1T", "1 M", "99999999999999999999", "99999999999999G", "5\u{20ac}"]
        {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| expiration(text).ok();
        assert_eq!(["1s", "1h", "1d", "1w"].map(seconds), [Some(1), Some(3600), Some(86_400), Some(604_800)]);
        assert_eq!(["1m", "1y", "999y"].map(seconds), [Some(2_592_000), Some(31_536_000), Some(u32::MAX)]);
        for wrong in ["", "d", "0d", "-1d", "14", "14 d", "1.5h", "99999999999999999999y", "14days"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn kinds_of_lines_are_added_until_none() {
        let mut kinds = LogKinds::NONE;
        for word in ["error", "warning"] {
            assert_eq!(log_kind(&mut kinds, word), Ok(()));
        }
        assert_eq!(kinds, LogKinds { error: true, warning: true, ..LogKinds::NONE });
        assert_eq!(log_kind(&mut kinds, "none"), Ok(()));
        assert_eq!(kinds, LogKinds::NONE);
        assert_eq!(log_kind(&mut kinds, "all"), Ok(()));
        assert_eq!(kinds, LogKinds::ALL);
        assert!(log_kind(&mut kinds, "info").is_err());
    }
}
