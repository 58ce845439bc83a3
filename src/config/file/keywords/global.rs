//! The keywords for the whole broker.

#[cfg(feature = "system")]
use crate::base::plural::Count;
use crate::base::time::Duration;
use crate::config::file::pending::Target;
use crate::config::file::values::{self, bound, u16_or_all};
#[cfg(feature = "system")]
use crate::settings::{
    Durability, Given, Listener, LogDestination, LogTime, OnDamage, Persistence, Protocol, Settings,
};
use crate::settings::{LogKinds, PERSISTENCE_FILE};

use super::row::{
    ANY, ANY_MORE, Form::*, Keyword, Meaning, Named, Scope, Setting, U16_MAXIMUM, row, setting,
};
#[cfg(feature = "system")]
use super::{
    row::Shown::*,
    shown::{self, Value, number, path, size, switch, text, word, words},
};

/// The largest Remaining Length, which limits every payload, and the length of a packet that has it, including its
/// fixed header.
const REMAINING_LENGTH_MAXIMUM: i32 = 268_435_455;
const PACKET_MAXIMUM: i32 = REMAINING_LENGTH_MAXIMUM + 5;

pub(super) static ROWS: &[Keyword] = &[
    setting!(
        "check_retain_source",
        Global,
        "true",
        Switch(|to, is_on| to.globals.security.checks_retain_source = is_on),
        ForAll(|of| switch(of.security.checks_retain_source)),
        ""
    ),
    setting!(
        "clientid_prefixes",
        Global,
        "none",
        Text("a prefix", |to, text| {
            to.globals.client_identifier_prefixes = vec![text.into()];
            Ok(())
        }),
        ForNewcomers(|of| words(&of.options.client_identifier_prefixes)),
        ""
    ),
    setting!(
        "connection_messages",
        Global,
        "true",
        Switch(|to, is_on| to.globals.settings.log.has_connections = is_on),
        AtOnce(|of| switch(of.log.has_connections)),
        ""
    ),
    setting!(
        "global_max_clients",
        Global,
        "1000000",
        Number(ANY, ANY_MORE, |to, number| to.globals.settings.limits.sessions = bound(number)),
        AtOnce(|of| shown::bound(of.limits.sessions)),
        "default one million, which 0 and negative numbers stand for as well"
    )
    .when(|it| it.number().is_some_and(|number| number <= 0)),
    setting!(
        "global_max_connections",
        Global,
        "1000000",
        Number(ANY, ANY_MORE, |to, number| to.globals.settings.limits.connections = bound(number)),
        AtOnce(|of| shown::bound(of.limits.connections)),
        "default one million, which 0 and negative numbers stand for as well"
    )
    .when(|it| it.number().is_some_and(|number| number <= 0)),
    setting!(
        "log_dest",
        Global,
        "stderr",
        PathAfter("file", values::LOG_DESTINATIONS, add_log_destination),
        AtOnce(log_destinations),
        "no `dlt`"
    )
    .never(),
    setting!(
        "log_facility",
        Global,
        "none",
        Number(0, 7, |to, number| to.globals.log_facility = u8::try_from(number).ok()),
        Never,
        ""
    ),
    setting!(
        "log_timestamp",
        Global,
        "seconds since 1970",
        Switch(|to, is_on| to.globals.has_log_time = is_on),
        AtOnce(log_time),
        ""
    ),
    setting!(
        "log_timestamp_format",
        Global,
        "none",
        Text("a format of strftime", |to, text| {
            to.globals.log_format = Some(text.to_owned());
            Ok(())
        }),
        Never,
        ""
    ),
    setting!(
        "log_type",
        Global,
        "error warning notice information",
        WordList("a kind of log lines", add_log_kind),
        AtOnce(log_kinds),
        ""
    ),
    setting!(
        "max_inflight_messages",
        Global,
        "512 out and 1024 in",
        Number(ANY, U16_MAXIMUM, |to, number| {
            to.globals.settings.limits.in_flight = u16_or_all(number);
        }),
        AtOnce(in_flight),
        "default 512, with a Receive Maximum of 1,024, 20 in mosquitto; at most 16,384 are in flight to a \
         client"
    )
    .when(|it| it.number().is_some_and(|number| !(1..=16_384).contains(&number))),
    setting!(
        "max_keepalive",
        Global,
        "65535",
        Number(0, U16_MAXIMUM, |to, number| {
            to.globals.settings.limits.keep_alive_maximum = u16_or_all(number);
        }),
        AtOnce(|of| number(of.limits.keep_alive_maximum)),
        ""
    ),
    setting!(
        "max_packet_size",
        Global,
        "2000000",
        Number(20, PACKET_MAXIMUM, |to, number| to.globals.settings.limits.packet_size = bound(number)),
        AtOnce(|of| size(of.limits.packet_size)),
        "at most 128 KiB until a CONNECT is accepted; the largest value is 268435460, the limit of the \
         protocol"
    )
    .when(|it| it.number().is_some_and(|number| number > 128 * 1024)),
    setting!(
        "max_queued_bytes",
        Global,
        "16777216",
        Number(ANY, ANY_MORE, |to, number| to.globals.settings.limits.queue_bytes = bound(number)),
        AtOnce(|of| shown::bound(of.limits.queue_bytes)),
        "default 16 MiB"
    )
    .never(),
    setting!(
        "max_queued_messages",
        Global,
        "1000 after 4194304 bytes",
        Number(ANY, ANY_MORE, |to, number| to.globals.settings.limits.queue_length = bound(number)),
        AtOnce(queue_length),
        ""
    ),
    setting!(
        "max_password_attempts",
        Global,
        "10",
        Number(0, 1_000, |to, number| {
            to.globals.security.password_attempts = usize::try_from(number).unwrap_or_default();
        }),
        ForAll(password_attempts),
        "Brooklet's own: how many different wrong passwords for one user are verified per minute from one address; for all \
         users together, ten times as many; default 10, 0 for no limit"
    ),
    setting!(
        "max_subscriptions",
        Global,
        "10000",
        Number(ANY, ANY_MORE, |to, number| {
            to.globals.settings.limits.subscriptions_per_session = bound(number);
        }),
        AtOnce(|of| shown::bound(of.limits.subscriptions_per_session)),
        "Brooklet's own: the maximum number of subscriptions of a session, default 10,000"
    ),
    setting!(
        "max_matching_subscriptions",
        Global,
        "1000",
        Number(1, ANY_MORE, |to, number| to.globals.settings.limits.matches_per_session = bound(number)),
        AtOnce(|of| shown::bound(of.limits.matches_per_session)),
        "Brooklet's own: the maximum number of subscriptions of a session that are evaluated for a \
         message, default 1,000"
    ),
    setting!(
        "memory_limit",
        Global,
        "none",
        Word(values::BYTES, |to, text| {
            to.globals.settings.limits.memory = values::memory_limit(text)?;
            Ok(())
        }),
        AtOnce(|of| of.limits.memory.map_or(Value::Nothing, size)),
        "at least 4M; covers all resident memory: the code of the broker, up to a quarter of the limit, and clients and \
         messages; K, M and G are allowed as units"
    ),
    setting!(
        "message_size_limit",
        Global,
        "none",
        Number(0, REMAINING_LENGTH_MAXIMUM, |to, number| {
            to.globals.settings.limits.payload_size = bound(number);
        }),
        AtOnce(|of| shown::bound(of.limits.payload_size)),
        "an MQTT 5.0 publisher at QoS 1 or 2 receives 0x97, in mosquitto 0x95; raises `max_packet_size` \
         if that is not set; 0 for no limit besides that one"
    )
    .when(|it| it.number().is_some_and(|number| number > 0)),
    setting!(
        "retry_interval",
        Global,
        "20",
        Number(0, ANY_MORE, |to, number| {
            to.globals.settings.limits.retry_interval = values::seconds(number);
        }),
        AtOnce(|of| number(of.limits.retry_interval.seconds())),
        "mosquitto ignores it; only for 3.1 and 3.1.1: seconds from the client's latest acknowledgement \
         to the redelivery of its oldest message, default 20, doubled each time; 0 for no redelivery"
    ),
    setting!(
        "persistence",
        Global,
        "false",
        Switch(|to, is_on| to.globals.is_persistent = is_on),
        AfterRestart(|of| switch(of.persistence.is_some())),
        "acknowledged messages are on disk, in a file with Brooklet's own format: see \"What survives\""
    )
    .when(|it| it.is_on()),
    setting!(
        "retained_persistence",
        Global,
        "false",
        Switch(|to, is_on| to.globals.is_persistent = is_on),
        By("persistence"),
        "same as `persistence`, as in mosquitto; acknowledged messages are on disk, in a file with \
         Brooklet's own format"
    )
    .when(|it| it.is_on()),
    setting!(
        "persistence_file",
        Global,
        PERSISTENCE_FILE,
        Text("the name of a file", |to, text| {
            to.globals.persistence.file = to.given(text);
            Ok(())
        }),
        AfterRestart(|of| persistent(of, |of| word(&of.file))),
        "default `brooklet.db`, which is also used in place of a database of mosquitto, and of a new `mosquitto.db`"
    )
    .when(|it| it.value == "mosquitto.db"),
    setting!(
        "persistence_location",
        Global,
        ".",
        Path(Named::Directory, |to, path| to.globals.persistence.directory = path),
        AfterRestart(|of| persistent(of, |of| path(Some(&of.directory)))),
        ""
    ),
    setting!(
        "persistent_client_expiration",
        Global,
        "none",
        Word("a duration", |to, text| {
            to.globals.settings.limits.session_expiry_maximum = values::expiration(text)?;
            Ok(())
        }),
        AtOnce(expiration),
        ""
    ),
    setting!(
        "pid_file",
        Global,
        "none",
        Path(Named::File, |to, path| to.globals.settings.process.pid_file = Some(path)),
        AfterRestart(|of| path(of.process.pid_file.as_deref())),
        ""
    ),
    setting!(
        "queue_qos0_messages",
        Global,
        "false",
        Switch(|to, is_on| to.globals.settings.switches.queues_at_most_once = is_on),
        AtOnce(|of| switch(of.switches.queues_at_most_once)),
        ""
    ),
    setting!(
        "retain_available",
        Global,
        "true",
        Switch(|to, is_on| to.globals.settings.switches.retain_available = is_on),
        AtOnce(|of| switch(of.switches.retain_available)),
        ""
    ),
    setting!(
        "sys_interval",
        Global,
        "10",
        Number(0, U16_MAXIMUM, |to, number| {
            to.globals.settings.system_interval =
                Some(values::seconds(number)).filter(|&it| it > Duration::ZERO);
        }),
        AtOnce(|of| number(of.system_interval.map_or(0, |interval| interval.seconds()))),
        ""
    ),
    setting!(
        "upgrade_outgoing_qos",
        Global,
        "false",
        Switch(|to, is_on| to.globals.settings.switches.raises_qos = is_on),
        AtOnce(|of| switch(of.switches.raises_qos)),
        ""
    ),
    setting!(
        "user",
        Global,
        "none",
        Text("the name of a user", |to, text| {
            to.globals.settings.process.user = Some(to.given(text));
            Ok(())
        }),
        AfterRestart(|of| text(of.process.user.as_deref())),
        "if not set: `brooklet`, otherwise `mosquitto`, otherwise `nobody`"
    )
    .never(),
    setting!(
        "websockets_headers_size",
        Global,
        "8192",
        Number(0, U16_MAXIMUM, |to, number| to.globals.websocket_headers = values::websocket_headers(number)),
        ForNewcomers(websocket_headers),
        "default 8 KiB"
    )
    .never(),
    setting!(
        "packet_buffer_size",
        Global,
        "8192",
        Number(0, U16_MAXIMUM, |to, number| to.globals.websocket_headers = values::websocket_headers(number)),
        By("websockets_headers_size"),
        "default 8 KiB"
    )
    .never(),
    setting!(
        "durability",
        Global,
        "always",
        Word(values::DURABILITIES, |to, text| {
            to.globals.persistence.durability = values::durability(text)?;
            Ok(())
        }),
        AfterRestart(|of| persistent(of, durability)),
        "Brooklet's own: what an acknowledgement guarantees"
    ),
    setting!(
        "commit_delay",
        Global,
        "0",
        Number(0, 20, |to, number| {
            let milliseconds = u64::try_from(number).unwrap_or_default();
            to.globals.persistence.commit_delay = Duration::from_milliseconds(milliseconds);
        }),
        AfterRestart(|of| persistent(of, |of| number(of.commit_delay.milliseconds()))),
        "Brooklet's own: how many milliseconds a commit is delayed to include more changes"
    ),
    setting!(
        "persistence_damaged",
        Global,
        "refuse",
        Word(values::ON_DAMAGE, |to, text| {
            to.globals.persistence.on_damage = values::on_damage(text)?;
            Ok(())
        }),
        AfterRestart(|of| persistent(of, on_damage)),
        "Brooklet's own: what to do with a damaged file"
    ),
    setting!(
        "persistence_import",
        Global,
        "false",
        Switch(|to, is_on| to.globals.persistence.imports = is_on),
        AfterRestart(|of| persistent(of, |of| switch(of.imports))),
        "Brooklet's own: whether a new store begins with what the database of mosquitto in the same directory \
         holds, which is left as it is"
    ),
];

/// Adds a destination. The first one replaces the default.
fn add_log_destination(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    let place = to.place;
    let destinations = &mut to.globals.settings.log.destinations;
    if to.globals.places.place("log_dest").is_none() {
        destinations.clear();
    }
    values::log_destination(destinations, text, place)
}

/// Adds a kind of lines. The first one replaces the default.
fn add_log_kind(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    let kinds = &mut to.globals.settings.log.kinds;
    if to.globals.places.place("log_type").is_none() {
        *kinds = LogKinds::NONE;
    }
    values::log_kind(kinds, text)
}

#[cfg(feature = "system")]
fn log_destinations(of: &Settings) -> Value<'_> {
    let name = |destination: &Given<LogDestination>| match &destination.value {
        LogDestination::StandardError => "stderr".to_owned(),
        LogDestination::StandardOutput => "stdout".to_owned(),
        LogDestination::File(file) => {
            format!("file {}", path(Some(file.as_path())).text().unwrap_or_default())
        }
        LogDestination::Syslog(None) => "syslog".to_owned(),
        LogDestination::Syslog(Some(facility)) => format!("syslog at local{facility}"),
        LogDestination::Topic => "topic".to_owned(),
    };
    let names: Vec<String> = of.log.destinations.iter().map(name).collect();
    if names.is_empty() { Value::Nothing } else { Value::Words(names.join(", ")) }
}

#[cfg(feature = "system")]
fn log_time(of: &Settings) -> Value<'_> {
    match &of.log.time {
        LogTime::None => Value::Nothing,
        LogTime::Epoch => word("seconds since 1970"),
        LogTime::Format(format) => word(format),
    }
}

#[cfg(feature = "system")]
fn log_kinds(of: &Settings) -> Value<'_> {
    let kinds = values::LOG_KINDS.iter().filter(|(_, kind)| *kind(&mut of.log.kinds.clone()));
    words(kinds.map(|(name, _)| name))
}

#[cfg(feature = "system")]
fn in_flight(of: &Settings) -> Value<'_> {
    let (sent, received) = (of.limits.in_flight, of.limits.receive_maximum);
    if sent == received { number(sent) } else { Value::Words(format!("{sent} out and {received} in")) }
}

#[cfg(feature = "system")]
fn queue_length(of: &Settings) -> Value<'_> {
    let length = shown::bound(of.limits.queue_length);
    match of.limits.burst_bytes {
        0 => length,
        burst => {
            Value::Words(format!("{} after {}", length.text().unwrap_or_default(), Count(burst, "byte")))
        }
    }
}

#[cfg(feature = "system")]
fn expiration(of: &Settings) -> Value<'_> {
    match of.limits.session_expiry_maximum {
        u32::MAX => Value::Nothing,
        seconds => Value::Words(format!("{seconds}s")),
    }
}

#[cfg(feature = "system")]
fn password_attempts(of: &Listener) -> Value<'_> {
    match of.security.password_attempts {
        0 => Value::Nothing,
        attempts => size(attempts),
    }
}

#[cfg(feature = "system")]
fn websocket_headers(of: &Listener) -> Value<'_> {
    match of.protocol {
        Protocol::Mqtt => Value::Nothing,
        Protocol::WebSocket { headers, .. } => size(headers),
    }
}

/// A value of persistence, which does not apply without persistence.
#[cfg(feature = "system")]
fn persistent(of: &Settings, show: fn(&Persistence) -> Value<'_>) -> Value<'_> {
    of.persistence.as_ref().map_or(Value::NotApplicable, show)
}

#[cfg(feature = "system")]
const fn durability(of: &Persistence) -> Value<'_> {
    word(match of.durability {
        Durability::Always => "always",
        Durability::EverySecond => "everysec",
        Durability::None => "none",
    })
}

#[cfg(feature = "system")]
const fn on_damage(of: &Persistence) -> Value<'_> {
    word(match of.on_damage {
        OnDamage::Refuse => "refuse",
        OnDamage::SetAside => "set_aside",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_packet_may_be_larger_than_the_protocol_allows() {
        assert_eq!(usize::try_from(PACKET_MAXIMUM), Ok(crate::protocol::codec::PACKET_SIZE_MAXIMUM));
    }
}
