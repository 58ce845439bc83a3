//! The values of a bridge in the form that the log has.

use std::path::PathBuf;

use crate::protocol::codec::ProtocolVersion;
use crate::settings::{
    Bridge, BridgeTopic, ClientTls, Direction, Given, QueueDrop, Reload, RemoteAddress, Start,
};

use super::shown::{Value, number, size, word, words};

pub(super) fn addresses(of: &Bridge) -> Value<'_> {
    let text = |RemoteAddress { host, port }: &RemoteAddress| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    words(of.addresses.iter().map(text))
}

pub(super) fn topics(of: &Bridge) -> Value<'_> {
    let quoted = |text: &str| match text {
        "" => "\"\"".to_owned(),
        text if text.contains([' ', '\t']) => format!("\"{text}\""),
        text => text.to_owned(),
    };
    let rule = |BridgeTopic { pattern, direction, qos, local_prefix, remote_prefix }: &BridgeTopic| {
        let direction = match direction {
            Direction::Out => "out",
            Direction::In => "in",
            Direction::Both => "both",
        };
        let rule = format!("{} {direction} {}", quoted(pattern), qos.level());
        if local_prefix.is_empty() && remote_prefix.is_empty() {
            return rule;
        }
        format!("{rule} {} {}", quoted(local_prefix), quoted(remote_prefix))
    };
    let rules: Vec<String> = of.topics.iter().map(rule).collect();
    words([rules.join(", ")])
}

pub(super) fn secret(password: Option<&str>) -> Value<'_> {
    password.map_or(Value::Nothing, Value::Secret)
}

pub(super) const fn version(of: &Bridge) -> Value<'_> {
    word(match of.remote.version {
        ProtocolVersion::V31 => "mqttv31",
        ProtocolVersion::V311 => "mqttv311",
        ProtocolVersion::V5 => "mqttv50",
    })
}

pub(super) fn limit<'a>(limit: Option<u32>) -> Value<'a> {
    limit.map_or(Value::Nothing, number)
}

pub(super) const fn start_type(of: &Bridge) -> Value<'_> {
    word(match of.start {
        Start::Automatic => "automatic",
        Start::Lazy { .. } => "lazy",
        Start::Once => "once",
    })
}

/// A value of lazy bridges, from the threshold and the idle timeout in seconds.
pub(super) fn lazy(of: &Bridge, show: fn(usize, u64) -> Value<'static>) -> Value<'_> {
    match of.start {
        Start::Lazy { threshold, idle } => show(threshold, idle.seconds()),
        Start::Automatic | Start::Once => Value::NotApplicable,
    }
}

pub(super) fn restart(of: &Bridge) -> Value<'_> {
    let seconds = [of.restart.least, of.restart.most, of.restart.stable].map(|it| it.seconds().to_string());
    let count = match &seconds {
        [least, most, stable] if least == most && stable == "0" => 1,
        [_, _, stable] if stable == "0" => 2,
        _ => 3,
    };
    words(seconds.iter().take(count))
}

pub(super) const fn reload(of: &Bridge) -> Value<'_> {
    word(match of.reload {
        Reload::Lazy => "lazy",
        Reload::Immediate => "immediate",
    })
}

pub(super) fn identity(of: &Bridge) -> Option<&[Given<PathBuf>; 2]> {
    of.tls.as_ref()?.identity.as_ref()
}

pub(super) const fn tls_version(of: &Bridge) -> Value<'_> {
    match of.tls {
        None => Value::NotApplicable,
        Some(ClientTls { is_1_3_only: true, .. }) => word("tlsv1.3"),
        Some(ClientTls { is_1_3_only: false, .. }) => word("tlsv1.2"),
    }
}

pub(super) const fn queue_drop(of: &Bridge) -> Value<'_> {
    word(match of.queue.drops {
        QueueDrop::Oldest => "oldest",
        QueueDrop::Newest => "newest",
    })
}

/// The maximum number of queued messages. Zero means no limit, none that of clients.
pub(super) fn queue_length(of: &Bridge) -> Value<'_> {
    match of.queue.length {
        None => Value::Nothing,
        Some(usize::MAX) => Value::Number(0),
        Some(length) => size(length),
    }
}
