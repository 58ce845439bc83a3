//! What keywords may be given, beyond switches, numbers and plain texts. An error says what was expected.

use crate::protocol::codec::QoS;
use crate::protocol::proxy::Proxy;
use crate::protocol::topic::TopicName;
use crate::settings::{Durability, Family, LogDestination, LogKinds, Network, OnDamage};

use super::drafts::{Globals, ListenerDraft};

/// The least memory that holds the largest packet and lets anybody in.
pub const MEMORY_LIMIT_MINIMUM: usize = 4 * 1024 * 1024;

/// A number of bytes, with K, M or G for units.
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

pub(super) fn memory_limit(globals: &mut Globals, text: &str) -> Result<(), String> {
    let count = bytes(text).ok_or("a number of bytes, with K, M or G for units, or 0 for no limit")?;
    if (1..MEMORY_LIMIT_MINIMUM).contains(&count) {
        return Err(
            "4M or more, which holds the largest packet and lets somebody in, or 0 for no limit".to_owned()
        );
    }
    globals.memory_limit = Some(count).filter(|&count| count > 0);
    Ok(())
}

/// A whole number and one letter: seconds, hours, days, weeks, months of 30 and years of 365 days.
pub(super) fn expiration(globals: &mut Globals, text: &str) -> Result<(), String> {
    const UNITS: [(char, u64); 6] =
        [('s', 1), ('h', 3600), ('d', 86_400), ('w', 604_800), ('m', 2_592_000), ('y', 31_536_000)];
    let seconds = UNITS.iter().find_map(|&(letter, unit)| {
        let count: u64 = text.strip_suffix(letter)?.parse().ok()?;
        count.checked_mul(unit)
    });
    let seconds = seconds
        .filter(|&seconds| seconds > 0)
        .ok_or("a whole number above zero and s, h, d, w, m (30 days) or y behind it, as in '14d'")?;
    globals.session_expiry = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(())
}

pub(super) fn log_destination(globals: &mut Globals, text: &str) -> Result<(), String> {
    let (kind, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let destinations = globals.log_destinations.get_or_insert_default();
    let destination = match kind {
        "none" => {
            destinations.clear();
            return Ok(());
        }
        "stderr" => LogDestination::StandardError,
        "stdout" => LogDestination::StandardOutput,
        "syslog" => LogDestination::Syslog(None),
        "topic" => LogDestination::Topic,
        "file" if rest.trim().is_empty() => return Err("the path of a file behind 'file'".to_owned()),
        "file" => {
            if destinations.iter().any(|there| matches!(there, LogDestination::File(_))) {
                return Err("only one file".to_owned());
            }
            LogDestination::File(rest.trim().into())
        }
        "dlt" => {
            return Err("stdout, stderr, syslog, topic, none or 'file PATH'; DLT is not there".to_owned());
        }
        _ => return Err("stdout, stderr, syslog, topic, none or 'file PATH'".to_owned()),
    };
    if !destinations.contains(&destination) {
        destinations.push(destination);
    }
    Ok(())
}

pub(super) const NO_KINDS: LogKinds = all_kinds(false);
pub(super) const ALL_KINDS: LogKinds = all_kinds(true);

const fn all_kinds(is_on: bool) -> LogKinds {
    LogKinds {
        error: is_on,
        warning: is_on,
        notice: is_on,
        information: is_on,
        debug: is_on,
        subscribe: is_on,
        unsubscribe: is_on,
        websockets: is_on,
        internal: is_on,
    }
}

pub(super) fn log_kind(globals: &mut Globals, text: &str) -> Result<(), String> {
    let kinds = globals.log_kinds.get_or_insert(NO_KINDS);
    let kind = match text {
        "none" => {
            *kinds = NO_KINDS;
            return Ok(());
        }
        "all" => {
            *kinds = ALL_KINDS;
            return Ok(());
        }
        "error" => &mut kinds.error,
        "warning" => &mut kinds.warning,
        "notice" => &mut kinds.notice,
        "information" => &mut kinds.information,
        "debug" => &mut kinds.debug,
        "subscribe" => &mut kinds.subscribe,
        "unsubscribe" => &mut kinds.unsubscribe,
        "websockets" => &mut kinds.websockets,
        "internal" => &mut kinds.internal,
        _ => {
            let kinds =
                "error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal";
            return Err(format!("{kinds}, all or none"));
        }
    };
    *kind = true;
    Ok(())
}

pub(super) fn durability(globals: &mut Globals, text: &str) -> Result<(), String> {
    globals.durability = match text {
        "always" => Durability::Always,
        "everysec" => Durability::EverySecond,
        "none" => Durability::None,
        _ => return Err("always, everysec or none".to_owned()),
    };
    Ok(())
}

pub(super) fn on_damage(globals: &mut Globals, text: &str) -> Result<(), String> {
    globals.on_damage = match text {
        "refuse" => OnDamage::Refuse,
        "set_aside" => OnDamage::SetAside,
        _ => return Err("refuse or set_aside".to_owned()),
    };
    Ok(())
}

pub(super) fn protocol(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    listener.is_websocket = match text {
        "mqtt" => false,
        "websockets" => true,
        "http_api" => return Err("mqtt or websockets; there is no HTTP interface here".to_owned()),
        _ => return Err("mqtt or websockets".to_owned()),
    };
    Ok(())
}

pub(super) fn family(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    listener.family = match text {
        "ipv4" => Family::V4,
        "ipv6" => Family::V6,
        _ => return Err("ipv4 or ipv6".to_owned()),
    };
    Ok(())
}

pub(super) fn tls_version(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    // The older ones are not spoken: their clients stay outside, which weakens nothing.
    listener.is_1_3_only = match text {
        "tlsv1.3" => true,
        "tlsv1.2" | "tlsv1.1" | "tlsv1" => false,
        _ => return Err("tlsv1.2 or tlsv1.3".to_owned()),
    };
    Ok(())
}

pub(super) fn key_form(_listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    if text == "pem" { Ok(()) } else { Err("pem; keys in engines are not supported".to_owned()) }
}

pub(super) const VERSIONS: &str = "a list of 3 (for 3.1), 4 (for 3.1.1) and 5 (for 5.0)";

pub(super) fn versions(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    let mut versions = [false; 3];
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match word {
            "3" => versions[0] = true,
            "4" => versions[1] = true,
            "5" => versions[2] = true,
            _ => return Err(VERSIONS.to_owned()),
        }
    }
    if versions == [false; 3] {
        return Err(VERSIONS.to_owned());
    }
    listener.versions = versions;
    Ok(())
}

pub(super) fn maximum_qos(listener: &mut ListenerDraft, number: i64) {
    listener.maximum_qos = match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
}

pub(super) fn mount_point(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    if TopicName::new(text).is_err() {
        return Err("the beginning of a topic, without wildcards".to_owned());
    }
    listener.mount_point = Some(text.to_owned());
    Ok(())
}

pub(super) fn trusted_source(listener: &mut ListenerDraft, text: &str) -> Result<(), String> {
    let network = Network::parse(text).ok_or("an address, as in 10.0.0.1 or 10.0.0.0/8")?;
    listener.proxies.push(network);
    Ok(())
}

pub(super) fn proxy(listener: &mut ListenerDraft, number: i64) {
    let requires_tls = listener.proxy_requires_tls;
    listener.proxy = Some(if number == 1 { Proxy::V1 } else { Proxy::V2 { requires_tls } });
}

/// What a drawn Client Identifier may begin with.
pub(super) fn drawn_prefix(text: &str) -> Result<String, String> {
    if text.len() > 50 { Err("at most 50 bytes".to_owned()) } else { Ok(text.to_owned()) }
}

/// A name for a listener.
pub(super) fn listener_name(text: &str) -> Result<String, String> {
    if text.len() > 255 { Err("at most 255 bytes".to_owned()) } else { Ok(text.to_owned()) }
}

/// A number that stands for a bound: nothing, or less, is no bound.
pub(super) fn bound(number: i64) -> usize {
    usize::try_from(number).ok().filter(|&bound| bound > 0).unwrap_or(usize::MAX)
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
    fn durations_have_a_letter() {
        let seconds = |text: &str| {
            let mut globals = Globals::default();
            expiration(&mut globals, text).ok().and(globals.session_expiry)
        };
        assert_eq!(["1s", "1h", "1d", "1w"].map(seconds), [Some(1), Some(3600), Some(86_400), Some(604_800)]);
        assert_eq!(["1m", "1y", "999y"].map(seconds), [Some(2_592_000), Some(31_536_000), Some(u32::MAX)]);
        for wrong in ["", "d", "0d", "-1d", "14", "14 d", "1.5h", "99999999999999999999y", "14days"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn kinds_of_lines_add_up_until_none() {
        let mut globals = Globals::default();
        for word in ["error", "warning"] {
            assert_eq!(log_kind(&mut globals, word), Ok(()));
        }
        assert_eq!(globals.log_kinds, Some(LogKinds { error: true, warning: true, ..NO_KINDS }));
        assert_eq!(log_kind(&mut globals, "none"), Ok(()));
        assert_eq!(globals.log_kinds, Some(NO_KINDS));
        assert_eq!(log_kind(&mut globals, "all"), Ok(()));
        assert_eq!(globals.log_kinds, Some(ALL_KINDS));
        assert!(log_kind(&mut globals, "info").is_err());
    }
}
