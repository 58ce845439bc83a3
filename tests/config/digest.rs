//! Settings as a few lines of text, which show how they differ from those without a file.

use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerOptions, UserNameSource};
use brooklet::core::switches::Switches;
use brooklet::protocol::codec::QoS;
use brooklet::protocol::proxy::Proxy;
use brooklet::settings::{
    Address, Bridge, BridgeTopic, Durability, Family, Listener, Log, LogDestination, LogKinds, LogTime,
    OnDamage, Protocol, Security, Settings, SocketFile, Tls,
};

/// One line for each listener, then those about the whole broker.
pub fn digest(settings: &Settings) -> Vec<String> {
    let mut lines: Vec<String> = settings.listeners.iter().map(of_listener).collect();
    lines.extend(settings.bridges.iter().flat_map(of_bridge));
    let mut about = Vec::new();
    unusual(&settings.limits, &Limits::default(), &mut about);
    if !about.is_empty() {
        lines.push(format!("limits {}", about.join(", ")));
    }
    let mut switches = Vec::new();
    unusual(&settings.switches, &Switches::default(), &mut switches);
    if !switches.is_empty() {
        lines.push(format!("switches {}", switches.join(", ")));
    }
    let log = of_log(&settings.log);
    if !log.is_empty() {
        lines.push(format!("log {}", log.join(", ")));
    }
    if settings.system_interval.map(|interval| interval.seconds()) != Some(10) {
        lines.push(format!("$SYS every {:?}", settings.system_interval.map(|interval| interval.seconds())));
    }
    if let Some(persistence) = &settings.persistence {
        let delay = persistence.commit_delay.milliseconds();
        let mut line = format!("persistence {} in {}", &*persistence.file, persistence.directory.display());
        if persistence.durability != Durability::Always || delay != 0 {
            line += &format!(", {:?}, delay {delay} ms", persistence.durability);
        }
        if persistence.imports {
            line += ", imports";
        }
        if persistence.on_damage != OnDamage::Refuse {
            line += &format!(", if damaged {:?}", persistence.on_damage);
        }
        lines.push(line);
    }
    if let Some(user) = settings.process.user.as_deref() {
        lines.push(format!("user {user}"));
    }
    if let Some(path) = &settings.process.pid_file {
        lines.push(format!("pid file {}", path.display()));
    }
    lines
}

fn of_listener(listener: &Listener) -> String {
    let Listener {
        address,
        interface,
        socket_file,
        protocol,
        tls,
        proxy,
        proxies,
        connections,
        options,
        security,
        ..
    } = listener;
    let mut words = vec![format!("listener at {address}")];
    if let Address::Internet { family, .. } = address
        && *family != Family::Both
    {
        words.push(format!("{family:?} only"));
    }
    words.extend(interface.as_ref().map(|interface| format!("interface {interface}")));
    if *socket_file != SocketFile::default() {
        words.push(format!("mode {:o} of group {:?}", socket_file.mode, socket_file.group));
    }
    if let Protocol::WebSocket { origins, headers } = protocol {
        words.push(format!("WebSocket with {headers} bytes of headers"));
        words.extend(origins.iter().map(|origin| format!("origin {origin}")));
    }
    words.extend(tls.as_ref().map(of_tls));
    match proxy {
        None => {}
        Some(Proxy::V1) => words.push("PROXY v1".to_owned()),
        Some(Proxy::V2 { requires_tls, requires_certificate }) => {
            words.push(format!("PROXY v2{}", if *requires_tls { " over TLS" } else { "" }));
            words.extend(requires_certificate.then(|| "certificate required".to_owned()));
        }
    }
    words.extend(proxies.iter().map(|network| format!("from {network}")));
    if *connections != usize::MAX {
        words.push(format!("{connections} connections"));
    }
    of_rules(options, &mut words);
    of_security(security, &mut words);
    words.join(", ")
}

fn of_tls(tls: &Tls) -> String {
    let mut words = vec![format!("TLS with {} and {}", tls.certificate.display(), tls.key.display())];
    words.extend(tls.authorities.as_ref().map(|path| format!("authorities {}", path.display())));
    words.extend(tls.authorities_directory.as_ref().map(|path| format!("authorities in {}", path.display())));
    words.extend(tls.revoked.as_ref().map(|path| format!("revoked {}", path.display())));
    if tls.requires_certificate {
        words.push("certificate required".to_owned());
    }
    words.extend(tls.record_size.map(|size| format!("records of {size}")));
    if tls.is_1_3_only {
        words.push("1.3 only".to_owned());
    }
    words.join(", ")
}

fn of_rules(options: &ListenerOptions, words: &mut Vec<String>) {
    if options.versions != [true; 3] {
        words.push(format!("versions {:?}", options.versions));
    }
    if options.maximum_qos != QoS::ExactlyOnce {
        words.push(format!("QoS up to {}", options.maximum_qos.level()));
    }
    if options.topic_alias_maximum != 10 {
        words.push(format!("{} topic aliases", options.topic_alias_maximum));
    }
    if options.outbound_topic_alias_maximum != 32 {
        words.push(format!("{} topic aliases to clients", options.outbound_topic_alias_maximum));
    }
    words.extend(options.mount_point.as_ref().map(|mount| format!("mounted at {mount}")));
    if !options.allows_empty_client_identifier {
        words.push("no empty client identifiers".to_owned());
    }
    if &*options.auto_id_prefix != "auto-" {
        words.push(format!("drawn identifiers {}", options.auto_id_prefix));
    }
    if options.user_name_is_client_identifier {
        words.push("user name is client identifier".to_owned());
    }
    if !options.client_identifier_prefixes.is_empty() {
        words.push(format!("client identifiers {}", options.client_identifier_prefixes.join(" or ")));
    }
    if options.user_name != UserNameSource::Connect {
        words.push(format!("user name from {:?}", options.user_name));
    }
}

fn of_security(security: &Security, words: &mut Vec<String>) {
    words.push(if security.allows_anonymous { "anonymous" } else { "not anonymous" }.to_owned());
    words.extend(security.passwords.as_ref().map(|path| format!("passwords {}", path.display())));
    words.extend(security.access.as_ref().map(|path| format!("access {}", path.display())));
    if !security.checks_retain_source {
        words.push("retained sources unchecked".to_owned());
    }
    if security.password_attempts != 10 {
        words.push(format!("{} password attempts", security.password_attempts));
    }
}

/// A line for the bridge, and one for each of its rules.
fn of_bridge(bridge: &Bridge) -> Vec<String> {
    let plain = &crate::bridges::bridge("").expect("it is valid");
    let mut words = vec![format!("bridge {}", bridge.name)];
    words.extend(bridge.addresses.iter().map(|address| format!("to {} port {}", address.host, address.port)));
    unusual(&bridge.remote, &plain.remote, &mut words);
    unusual(&bridge.local, &plain.local, &mut words);
    unusual(&bridge.queue, &plain.queue, &mut words);
    unusual(&bridge.restart, &plain.restart, &mut words);
    let fields = |bridge: &Bridge| {
        [
            format!("round robin {}", bridge.is_round_robin),
            format!("from {:?}", bridge.from),
            format!("notifications {:?}", bridge.notifications),
            format!("start {:?}", bridge.start),
            format!("reload {:?}", bridge.reload),
            format!("TLS {:?}", bridge.tls),
            format!("TCP {:?} {:?}", bridge.tcp_keepalive, bridge.tcp_user_timeout),
        ]
    };
    words.extend(
        fields(bridge).into_iter().zip(fields(plain)).filter(|(one, other)| one != other).map(|(one, _)| one),
    );
    let topics = bridge.topics.iter().map(|topic| {
        let BridgeTopic { pattern, direction, qos, local_prefix, remote_prefix } = topic;
        format!("  {direction:?} {pattern:?} at QoS {}, {local_prefix:?} {remote_prefix:?}", qos.level())
    });
    std::iter::once(words.join(", ")).chain(topics).collect()
}

/// The fields of a struct that differ from the defaults.
fn unusual<T: std::fmt::Debug>(said: &T, usual: &T, words: &mut Vec<String>) {
    let text = |fields: &T| {
        let text = format!("{fields:?}");
        let (_, fields) = text.split_once(" { ").expect("it is a struct");
        fields.trim_end_matches(" }").to_owned()
    };
    let (new, old) = (text(said), text(usual));
    let mut usual: Vec<&str> = old.split(", ").collect();
    for line in new.split(", ") {
        match usual.iter().position(|other| *other == line) {
            Some(at) => drop(usual.remove(at)),
            None => words.push(line.replace("18446744073709551615", "any")),
        }
    }
}

fn of_log(log: &Log) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if log.destinations != [LogDestination::StandardError.into()] {
        words.push(format!("to {:?}", log.destinations));
    }
    let LogKinds { error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal } =
        log.kinds;
    let kinds = [
        ("error", error),
        ("warning", warning),
        ("notice", notice),
        ("information", information),
        ("debug", debug),
        ("subscribe", subscribe),
        ("unsubscribe", unsubscribe),
        ("websockets", websockets),
        ("internal", internal),
    ];
    let on: Vec<&str> = kinds.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    if on != ["error", "warning", "notice", "information"] {
        words.push(format!("kinds {on:?}"));
    }
    if log.time != LogTime::Epoch {
        words.push(format!("time {:?}", log.time));
    }
    if !log.has_connections {
        words.push("no connections".to_owned());
    }
    words
}
