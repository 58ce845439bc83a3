//! Converts pending settings to final ones: checks combinations and fills in derived values.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::core::limits::{IN_FLIGHT_MAXIMUM, Limits};
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::protocol::codec::PACKET_SIZE_MAXIMUM;
use crate::protocol::proxy::Proxy;
use crate::settings::{
    Address, Given, Listener, LogDestination, LogKinds, LogTime, Protocol, Security, Settings, Tls,
};

#[cfg(feature = "bridge")]
use super::bridges::with_bridges;
#[cfg(feature = "cluster")]
use super::cluster;
use super::conflicts::{check_names, check_ports, check_unnamed};
use super::outcome::{Finding, Place};
use super::pending::{
    CommandLine, DEFAULT_PORT, Globals, Options, Pending, PendingListener, PendingSecurity, Places, Verbosity,
};
use super::statements::{self, Step};

/// The bytes that a topic and properties may add to a payload.
const BESIDE_PAYLOAD: usize = 64 * 1024;

/// Creates settings from statements. The settings are valid only if no finding is an error.
pub fn settle(steps: &[Step], given: &CommandLine) -> (Settings, Vec<Finding>) {
    let (mut pending, mut findings) = statements::pending(steps);
    if let Some(path) = &given.key_log {
        let place = Place { file: "--tls-keylog".into(), line: 0, column: 0 };
        let text =
            format!("anyone who can read '{path}' can decrypt all TLS connections, including passwords");
        findings.push(Finding::warning(&place, text));
    }
    #[cfg(not(feature = "persistence"))]
    check_persistence(&pending.globals, &mut findings);
    #[cfg(feature = "cluster")]
    {
        let host_name = given.host_name.as_deref();
        pending.globals.settings.cluster = cluster::complete(&mut pending.globals, host_name, &mut findings);
    }
    complete(&mut pending.globals, given, &mut findings);
    let mut builder = Builder {
        globals: &pending.globals,
        common: &pending.security,
        key_log: given.key_log.as_deref(),
        shared: Vec::new(),
    };
    let listeners = builder.listeners(&pending, given, &mut findings);
    let settings = Settings { listeners, ..pending.globals.settings };
    #[cfg(feature = "bridge")]
    let settings = with_bridges(settings, pending.bridges, given.host_name.as_deref(), &mut findings);
    (settings, findings)
}

/// Fills in values that depend on several keywords, and those that the command line and the environment override.
fn complete(globals: &mut Globals, given: &CommandLine, findings: &mut Vec<Finding>) {
    let Globals { places, settings, .. } = globals;
    complete_limits(&mut settings.limits, places);
    settings.limits.memory = given.memory_limit.or(settings.limits.memory);
    complete_log(globals, given.verbosity);
    let Globals { places, settings, persistence, .. } = globals;
    if globals.is_persistent {
        if let Some(directory) = &given.persistence_location {
            persistence.directory =
                Given::at("MOSQUITTO_PERSISTENCE_LOCATION in the environment", directory.into());
        }
        let asked = places.place("persistence").or(places.place("retained_persistence"));
        let mut persistence = std::mem::take(persistence);
        persistence.directory = persistence.directory.or_at(asked);
        settings.persistence = Some(persistence);
    }
    let process = &mut settings.process;
    process.user_number = number("PUID", given.user_number.as_deref(), 10, 1..=u32::MAX - 1, findings);
    process.group_number = number("PGID", given.group_number.as_deref(), 10, 1..=u32::MAX - 1, findings);
    process.file_mask = number("UMASK_SET", given.file_mask.as_deref(), 8, 0..=0o777, findings);
    process.is_daemon = given.is_daemon;
}

fn complete_limits(limits: &mut Limits, places: &Places) {
    let default = Limits::default();
    let finite = |bound: usize, default: usize| if bound == usize::MAX { default } else { bound };
    // If large payloads are allowed and the packet size is not configured, such payloads must fit.
    if places.place("max_packet_size").is_none() && limits.payload_size < usize::MAX {
        limits.packet_size = limits.packet_size.max(limits.payload_size.saturating_add(BESIDE_PAYLOAD));
    }
    limits.packet_size = limits.packet_size.min(PACKET_SIZE_MAXIMUM);
    limits.connect_packet_size = limits.connect_packet_size.min(limits.packet_size);
    limits.connections = finite(limits.connections, default.connections);
    limits.sessions = finite(limits.sessions, default.sessions);
    // A configured number of messages applies to all of them.
    if places.place("max_queued_messages").is_some() {
        limits.burst_bytes = 0;
    }
    if places.place("max_inflight_messages").is_some() {
        limits.receive_maximum = limits.in_flight;
        limits.in_flight = limits.in_flight.min(IN_FLIGHT_MAXIMUM);
    }
}

fn complete_log(globals: &mut Globals, verbosity: Verbosity) {
    let log = &mut globals.settings.log;
    for destination in &mut log.destinations {
        if let LogDestination::Syslog(facility) = &mut destination.value {
            *facility = globals.log_facility;
        }
    }
    match verbosity {
        Verbosity::Quiet => log.kinds = LogKinds { error: true, ..LogKinds::NONE },
        Verbosity::Verbose => log.kinds = LogKinds::ALL,
        Verbosity::Normal => {}
    }
    log.time = match globals.log_format.take() {
        _ if !globals.has_log_time => LogTime::None,
        Some(format) => LogTime::Format(format),
        None => LogTime::Epoch,
    };
}

/// A number from the environment, if it is set.
fn number(
    name: &str,
    text: Option<&str>,
    radix: u32,
    range: RangeInclusive<u32>,
    findings: &mut Vec<Finding>,
) -> Option<u32> {
    let text = text?;
    let number = u32::from_str_radix(text, radix).ok().filter(|number| range.contains(number));
    if number.is_none() {
        let expected = match radix {
            8 => "permissions in octal, such as 0022",
            _ => "a number above zero; use `user root` in the configuration to stay root",
        };
        let place = Place { file: name.into(), line: 0, column: 0 };
        findings.push(Finding::error(&place, format!("'{text}' in the environment, expected {expected}")));
    }
    number
}

/// A binary without persistence reports an error, rather than lose data.
#[cfg(not(feature = "persistence"))]
fn check_persistence(globals: &Globals, findings: &mut Vec<Finding>) {
    if globals.is_persistent
        && let Some(place) =
            globals.places.place("persistence").or(globals.places.place("retained_persistence"))
    {
        let text = "this binary was built without persistence (feature persistence), expected 'false'";
        findings.push(Finding::error(place, text));
    }
}

/// The error about an option that needs TLS, in a binary without it.
const NO_TLS: &str = "this binary was built without TLS (feature tls)";

struct Builder<'a> {
    globals: &'a Globals,
    /// The options that apply to all listeners.
    common: &'a PendingSecurity,
    /// The file to write the keys of TLS connections to.
    key_log: Option<&'a str>,
    /// The values created so far, which listeners with the same options share.
    shared: Vec<Rc<Security>>,
}

impl Builder<'_> {
    fn listeners(
        &mut self,
        pending: &Pending,
        given: &CommandLine,
        findings: &mut Vec<Finding>,
    ) -> Vec<Listener> {
        let Pending { unnamed, listeners: named, .. } = pending;
        let has_unnamed = unnamed.place.is_some() || unnamed.is_made_by_options();
        let is_local = named.is_empty() && !has_unnamed;
        let mut listeners = Vec::new();
        if is_local {
            let ports = if given.ports.is_empty() { &[DEFAULT_PORT][..] } else { &given.ports };
            let place = if given.ports.is_empty() { "default" } else { "--port" };
            for &port in ports {
                listeners.push(self.listener(
                    unnamed,
                    Address::Loopback { port },
                    place.to_owned(),
                    findings,
                ));
            }
            return listeners;
        }
        let mut all: Vec<&PendingListener> = named.iter().collect();
        if has_unnamed {
            all.insert(0, unnamed);
        }
        if let Some(Place { file, .. }) = all.first().and_then(|first| first.first_place())
            && !given.ports.is_empty()
        {
            let place = Place { file: file.clone(), line: 0, column: 0 };
            findings.push(Finding::warning(&place, "it has listeners, so --port is ignored"));
        }
        check_unnamed(unnamed, named, pending.security.allows_anonymous, findings);
        check_ports(&all, findings);
        check_names(&all, findings);
        for pending in all {
            let place = pending
                .first_place()
                .map_or_else(String::new, |place| format!("{}:{}", place.file, place.line));
            let listener = self.listener(pending, address(pending), place, findings);
            self.warn_of_likeness(pending, &listener, &listeners, findings);
            listeners.push(listener);
        }
        listeners
    }

    /// Warns if two listeners have the same identity. Persistent sessions belong to a listener by its identity, so it
    /// should be unique.
    fn warn_of_likeness(
        &self,
        pending: &PendingListener,
        listener: &Listener,
        others: &[Listener],
        findings: &mut Vec<Finding>,
    ) {
        let identity = listener.identity();
        if self.globals.is_persistent
            && others.iter().any(|other| other.identity() == identity)
            && let Some(place) = &pending.place
        {
            let text = "it cannot be distinguished from an earlier one if their order changes, expected a 'listener_name' for both";
            findings.push(Finding::warning(place, text));
        }
    }

    fn listener(
        &mut self,
        pending: &PendingListener,
        address: Address,
        place: String,
        findings: &mut Vec<Finding>,
    ) -> Listener {
        let options = &pending.options;
        let is_local = matches!(address, Address::Loopback { .. });
        check_websocket(pending, findings);
        check_socket_file(pending, findings);
        Listener {
            place,
            name: options.name.clone(),
            address,
            interface: options.interface.clone(),
            socket_file: options.socket_file.clone(),
            protocol: if options.is_websocket {
                Protocol::WebSocket {
                    origins: options.origins.clone(),
                    headers: self.globals.websocket_headers,
                }
            } else {
                Protocol::Mqtt
            },
            tls: tls(pending, self.key_log, findings),
            proxy: proxy(pending, findings),
            proxies: options.proxies.clone(),
            connections: options.connections.unwrap_or(usize::MAX),
            options: Rc::new(self.listener_options(options, &pending.security)),
            security: self.security(pending, is_local),
        }
    }

    fn listener_options(&self, options: &Options, own: &PendingSecurity) -> ListenerOptions {
        let Self { globals, common, .. } = self;
        let limits = &globals.settings.limits;
        let prefix = options.own_auto_id_prefix.as_ref();
        let prefix = prefix.or(own.auto_id_prefix.as_ref()).or(common.auto_id_prefix.as_ref());
        let mut rules = ListenerOptions {
            packet_size: limits.packet_size,
            keep_alive_maximum: limits.keep_alive_maximum,
            client_identifier_prefixes: globals.client_identifier_prefixes.clone(),
            user_name: match (options.identity_is_user_name, options.subject_is_user_name) {
                (_, true) => UserNameSource::Subject,
                (true, false) => UserNameSource::CommonName,
                (false, false) => UserNameSource::Connect,
            },
            ..options.listener.clone()
        };
        if let Some(prefix) = prefix {
            rules.auto_id_prefix = prefix.clone();
        }
        if let Some(is_allowed) = own.allows_empty_client_identifier.or(common.allows_empty_client_identifier)
        {
            rules.allows_empty_client_identifier = is_allowed;
        }
        rules
    }

    /// If there is a password file, anonymous clients are refused by default. Otherwise they are accepted by default
    /// only if the listener can only be reached from this machine.
    fn security(&mut self, pending: &PendingListener, is_local: bool) -> Rc<Security> {
        let own = &pending.security;
        let passwords = own.passwords.as_ref().or(self.common.passwords.as_ref());
        let configured =
            pending.options.own_anonymous.or(own.allows_anonymous).or(self.common.allows_anonymous);
        let security = Security {
            allows_anonymous: configured.unwrap_or(is_local && passwords.is_none()),
            passwords: passwords.cloned(),
            access: own.access.as_ref().or(self.common.access.as_ref()).cloned(),
            ..self.globals.security.clone()
        };
        if let Some(same) = self.shared.iter().find(|other| ***other == security) {
            return same.clone();
        }
        let security = Rc::new(security);
        self.shared.push(security.clone());
        security
    }
}

fn address(pending: &PendingListener) -> Address {
    match &pending.path {
        Some(path) => Address::Unix { path: path.into() },
        None => Address::Internet {
            host: pending.host.clone(),
            port: pending.port.unwrap_or(DEFAULT_PORT),
            family: pending.options.family,
        },
    }
}

fn report(pending: &PendingListener, keyword: &str, text: &str, findings: &mut Vec<Finding>) {
    if let Some(place) = pending.place_of(keyword) {
        findings.push(Finding::error(place, text));
    }
}

fn tls(pending: &PendingListener, key_log: Option<&str>, findings: &mut Vec<Finding>) -> Option<Tls> {
    let Options { certificate, key, tls, .. } = &pending.options;
    let (certificate, key) = match (certificate, key) {
        (Some(_), _) if !cfg!(feature = "tls") => {
            report(pending, "certfile", NO_TLS, findings);
            return None;
        }
        (None, Some(_)) if !cfg!(feature = "tls") => {
            report(pending, "keyfile", NO_TLS, findings);
            return None;
        }
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (Some(_), None) => {
            let text = "'certfile' without 'keyfile', expected both for a listener";
            report(pending, "certfile", text, findings);
            return None;
        }
        (None, Some(_)) => {
            let text = "'keyfile' without 'certfile', expected both for a listener";
            report(pending, "keyfile", text, findings);
            return None;
        }
        (None, None) => {
            check_no_tls(pending, findings);
            return None;
        }
    };
    if tls.requires_certificate && tls.authorities.is_none() && tls.authorities_directory.is_none() {
        let text =
            "'require_certificate' without 'cafile' or 'capath', expected one of them to verify certificates";
        report(pending, "require_certificate", text, findings);
    }
    Some(Tls {
        certificate,
        key,
        key_log: key_log.map(|path| Given::at("--tls-keylog", path.into())),
        ..tls.clone()
    })
}

/// Reports options of TLS on a listener without TLS. They must not be ignored silently.
fn check_no_tls(pending: &PendingListener, findings: &mut Vec<Finding>) {
    let options = &pending.options;
    let is_proxied = matches!(options.proxy, Some(Proxy::V2 { .. }));
    for (keyword, is_set) in [
        ("cafile", options.tls.authorities.is_some()),
        ("capath", options.tls.authorities_directory.is_some()),
        ("crlfile", options.tls.revoked.is_some()),
        ("require_certificate", options.tls.requires_certificate && !is_proxied),
        ("tls_record_size", options.tls.record_size.is_some()),
        ("use_identity_as_username", options.identity_is_user_name && !is_proxied),
        ("use_subject_as_username", options.subject_is_user_name && !is_proxied),
    ] {
        if is_set {
            let text = if is_proxied {
                format!(
                    "'{keyword}' with 'enable_proxy_protocol 2', expected it in the proxy, which terminates TLS"
                )
            } else if cfg!(feature = "tls") {
                format!("'{keyword}' without TLS, expected 'certfile' and 'keyfile' for the same listener")
            } else {
                format!("'{keyword}': {NO_TLS}")
            };
            report(pending, keyword, &text, findings);
        }
    }
}

fn check_socket_file(pending: &PendingListener, findings: &mut Vec<Finding>) {
    for keyword in ["socket_mode", "socket_group"] {
        if let Some(place) = pending.options.places.place(keyword).filter(|_| pending.path.is_none()) {
            let text = format!("'{keyword}' without a Unix socket, expected it after 'listener 0 PATH'");
            findings.push(Finding::error(place, text));
        }
    }
}

fn check_websocket(pending: &PendingListener, findings: &mut Vec<Finding>) {
    if !cfg!(feature = "websocket") {
        let needing = [
            ("protocol", pending.options.is_websocket),
            ("websockets_origin", !pending.options.origins.is_empty()),
        ];
        if let Some((keyword, _)) = needing.into_iter().find(|(_, is_set)| *is_set) {
            let text = "this binary was built without WebSocket (feature websocket)";
            report(pending, keyword, text, findings);
        }
    } else if !pending.options.is_websocket && !pending.options.origins.is_empty() {
        let text = "'websockets_origin' without 'protocol websockets', expected it for the same listener";
        report(pending, "websockets_origin", text, findings);
    }
}

fn proxy(pending: &PendingListener, findings: &mut Vec<Finding>) -> Option<Proxy> {
    let requires_tls = pending.options.proxy_requires_tls;
    if pending.options.proxy.is_none() && !pending.options.proxies.is_empty() {
        let text = "'proxy_trusted_source' without 'enable_proxy_protocol', expected both";
        report(pending, "proxy_trusted_source", text, findings);
    }
    check_source(pending, findings);
    match pending.options.proxy {
        Some(Proxy::V2 { .. }) => {
            if pending.options.certificate.is_some() {
                let text = "'enable_proxy_protocol 2' and 'certfile', expected one of them: the proxy terminates TLS";
                report(pending, "enable_proxy_protocol", text, findings);
            }
            if pending.options.subject_is_user_name && !cfg!(feature = "tls") {
                let text = "this binary was built without TLS (feature tls), which reads certificates";
                report(pending, "use_subject_as_username", text, findings);
            }
            Some(Proxy::V2 { requires_tls, requires_certificate: pending.options.tls.requires_certificate })
        }
        proxy => {
            if requires_tls {
                let text = "'proxy_protocol_v2_require_tls' without 'enable_proxy_protocol 2', expected both";
                report(pending, "proxy_protocol_v2_require_tls", text, findings);
            }
            proxy
        }
    }
}

/// Checks that a PROXY header comes from a trusted source. Its contents are trusted. If they decide the identity of a
/// client or whether it may connect, the operator must configure the sources. A socket in the file system is protected
/// by its directory instead.
fn check_source(pending: &PendingListener, findings: &mut Vec<Finding>) {
    let Some(place) = pending.options.places.place("enable_proxy_protocol") else { return };
    if !pending.options.proxies.is_empty() || pending.path.is_some() {
        return;
    }
    let header_has_tls =
        matches!(pending.options.proxy, Some(Proxy::V2 { .. })) && pending.options.certificate.is_none();
    let trusted = [
        ("use_identity_as_username", pending.options.identity_is_user_name),
        ("use_subject_as_username", pending.options.subject_is_user_name),
        ("require_certificate", pending.options.tls.requires_certificate),
        ("proxy_protocol_v2_require_tls", pending.options.proxy_requires_tls),
    ];
    let trusted = trusted.into_iter().filter(|&(_, is_set)| is_set && header_has_tls);
    for (keyword, _) in trusted.clone() {
        let text = format!(
            "'{keyword}' trusts every peer that can reach this listener, expected the address of the proxy in \
             'proxy_trusted_source'"
        );
        report(pending, keyword, &text, findings);
    }
    if trusted.count() == 0 && !is_local(pending) {
        let text = "every peer that can reach this listener can claim any address, since there is no 'proxy_trusted_source'";
        findings.push(Finding::warning(place, text));
    }
}

/// Whether a listener can be reached only from this machine.
fn is_local(pending: &PendingListener) -> bool {
    let is_loopback = |host: &String| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    pending.path.is_some() || pending.host.as_ref().is_some_and(is_loopback)
}
