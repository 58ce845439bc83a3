//! Pending to settings: what has to fit together is checked, and what follows from it is filled in.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;

use crate::core::limits::{IN_FLIGHT_MAXIMUM, Limits};
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::protocol::codec::PACKET_SIZE_MAXIMUM;
use crate::protocol::proxy::Proxy;
use crate::settings::{
    Address, Listener, LogDestination, LogKinds, LogTime, Protocol, Security, Settings, Tls,
};

use super::conflicts::{check_names, check_ports, check_unnamed};
use super::outcome::{Finding, Place};
use super::pending::{
    CommandLine, DEFAULT_PORT, Globals, Options, Pending, PendingListener, PendingSecurity, Said, Verbosity,
};
use super::statements::{self, Step};

/// Bytes that a topic and its properties may add to a payload.
const BESIDE_PAYLOAD: usize = 64 * 1024;

/// Makes settings of statements. Worth something only if no finding is an error.
pub fn settle(steps: &[Step], given: &CommandLine) -> (Settings, Vec<Finding>) {
    let (mut pending, mut findings) = statements::pending(steps);
    if let Some(path) = &given.key_log {
        let place = Place { file: "--tls-keylog".into(), line: 0, column: 0 };
        let text = format!("whoever can read '{path}' can read what is said by TLS, passwords included");
        findings.push(Finding::warning(&place, text));
    }
    #[cfg(not(feature = "persistence"))]
    check_persistence(&pending.globals, &mut findings);
    complete(&mut pending.globals, given, &mut findings);
    let mut builder = Builder {
        globals: &pending.globals,
        common: &pending.security,
        key_log: given.key_log.as_deref(),
        shared: Vec::new(),
    };
    let listeners = builder.listeners(&pending, given, &mut findings);
    (Settings { listeners, ..pending.globals.settings }, findings)
}

/// Fills in what follows from several keywords, and what the command line and the environment say instead.
fn complete(globals: &mut Globals, given: &CommandLine, findings: &mut Vec<Finding>) {
    let Globals { said, settings, .. } = globals;
    complete_limits(&mut settings.limits, said);
    settings.limits.memory = given.memory_limit.or(settings.limits.memory);
    complete_log(globals, given.verbosity);
    let Globals { settings, persistence, .. } = globals;
    if globals.is_persistent {
        if let Some(directory) = &given.persistence_location {
            persistence.directory = directory.into();
        }
        settings.persistence = Some(std::mem::take(persistence));
    }
    let process = &mut settings.process;
    process.user_number = number("PUID", given.user_number.as_deref(), 10, 1..=u32::MAX - 1, findings);
    process.group_number = number("PGID", given.group_number.as_deref(), 10, 1..=u32::MAX - 1, findings);
    process.file_mask = number("UMASK_SET", given.file_mask.as_deref(), 8, 0..=0o777, findings);
    process.is_daemon = given.is_daemon;
}

fn complete_limits(limits: &mut Limits, said: &Said) {
    let default = Limits::default();
    let finite = |bound: usize, default: usize| if bound == usize::MAX { default } else { bound };
    // An operator who allows large payloads and says nothing of packets means that they fit.
    if said.place("max_packet_size").is_none() && limits.payload_size < usize::MAX {
        limits.packet_size = limits.packet_size.max(limits.payload_size.saturating_add(BESIDE_PAYLOAD));
    }
    limits.packet_size = limits.packet_size.min(PACKET_SIZE_MAXIMUM);
    limits.connect_packet_size = limits.connect_packet_size.min(limits.packet_size);
    limits.connections = finite(limits.connections, default.connections);
    limits.sessions = finite(limits.sessions, default.sessions);
    // Who counts messages means all of them.
    if said.place("max_queued_messages").is_some() {
        limits.burst_bytes = 0;
    }
    if said.place("max_inflight_messages").is_some() {
        limits.receive_maximum = limits.in_flight;
        limits.in_flight = limits.in_flight.min(IN_FLIGHT_MAXIMUM);
    }
}

fn complete_log(globals: &mut Globals, verbosity: Verbosity) {
    let log = &mut globals.settings.log;
    for destination in &mut log.destinations {
        if let LogDestination::Syslog(facility) = destination {
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

/// A number from the environment, where it is set.
fn number(
    name: &str,
    said: Option<&str>,
    radix: u32,
    range: RangeInclusive<u32>,
    findings: &mut Vec<Finding>,
) -> Option<u32> {
    let said = said?;
    let number = u32::from_str_radix(said, radix).ok().filter(|number| range.contains(number));
    if number.is_none() {
        let expected = match radix {
            8 => "rights in octal, as in 0022",
            _ => "a number from 1 on; `user root` in the configuration stays root",
        };
        let place = Place { file: name.into(), line: 0, column: 0 };
        findings.push(Finding::error(&place, format!("'{said}' in the environment, expected {expected}")));
    }
    number
}

/// A build that can not keep anything says so, rather than to lose what was entrusted to it.
#[cfg(not(feature = "persistence"))]
fn check_persistence(globals: &Globals, findings: &mut Vec<Finding>) {
    if globals.is_persistent
        && let Some(place) = globals.said.place("persistence").or(globals.said.place("retained_persistence"))
    {
        let text =
            "this build keeps nothing on disk, expected 'false' or a build with the feature persistence";
        findings.push(Finding::error(place, text));
    }
}

struct Builder<'a> {
    globals: &'a Globals,
    /// What is said of all listeners.
    common: &'a PendingSecurity,
    /// Where the keys of TLS connections go.
    key_log: Option<&'a str>,
    /// What was made so far, for listeners that are alike to share.
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
        let is_local = named.is_empty() && unnamed.place.is_none();
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
        if let Some(Place { file, .. }) =
            unnamed.place.as_ref().or(named.first().and_then(|one| one.place.as_ref()))
            && !given.ports.is_empty()
        {
            let place = Place { file: file.clone(), line: 0, column: 0 };
            findings.push(Finding::warning(&place, "it has listeners of its own, so --port is ignored"));
        }
        let mut said: Vec<&PendingListener> = named.iter().collect();
        if unnamed.place.is_some() || !unnamed.says_nothing() {
            said.insert(0, unnamed);
        }
        check_unnamed(unnamed, findings);
        check_ports(&said, findings);
        check_names(&said, findings);
        for pending in said {
            let place =
                pending.place.as_ref().or_else(|| pending.options.said.first().map(|(_, place)| place));
            let place = place.map_or_else(String::new, |place| format!("{}:{}", place.file, place.line));
            let listener = self.listener(pending, address(pending), place, findings);
            self.warn_of_likeness(pending, &listener, &listeners, findings);
            listeners.push(listener);
        }
        listeners
    }

    /// What is kept belongs to a listener by what it is known by, which should be its own.
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
            let text = "it can not be told from one before it once the order changes, expected a 'listener_name' for both";
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
        Listener {
            place,
            name: options.name.clone(),
            address,
            interface: options.interface.clone(),
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
            connections: options.connections,
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

    /// With users, other clients are not wanted unless the operator has said so; without users,
    /// those on this machine may.
    fn security(&mut self, pending: &PendingListener, is_local: bool) -> Rc<Security> {
        let own = &pending.security;
        let passwords = own.passwords.as_ref().or(self.common.passwords.as_ref());
        let said = pending.options.own_anonymous.or(own.allows_anonymous).or(self.common.allows_anonymous);
        let security = Security {
            allows_anonymous: said.unwrap_or(is_local && passwords.is_none()),
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
    if !cfg!(feature = "tls") {
        report(pending, "certfile", "this binary was built without TLS (feature tls)", findings);
    }
    if tls.requires_certificate && tls.authorities.is_none() && tls.authorities_directory.is_none() {
        let text = "'require_certificate' without 'cafile' or 'capath', expected one of them to check certificates with";
        report(pending, "require_certificate", text, findings);
    }
    Some(Tls { certificate, key, key_log: key_log.map(PathBuf::from), ..tls.clone() })
}

/// What somebody has said of TLS must not be passed over in silence where there is none.
fn check_no_tls(pending: &PendingListener, findings: &mut Vec<Finding>) {
    let options = &pending.options;
    let is_proxied = matches!(options.proxy, Some(Proxy::V2 { .. }));
    for (keyword, is_said) in [
        ("cafile", options.tls.authorities.is_some()),
        ("capath", options.tls.authorities_directory.is_some()),
        ("crlfile", options.tls.revoked.is_some()),
        ("require_certificate", options.tls.requires_certificate),
        ("use_identity_as_username", options.identity_is_user_name && !is_proxied),
        ("use_subject_as_username", options.subject_is_user_name),
    ] {
        if is_said {
            let text = if is_proxied {
                format!(
                    "'{keyword}' with 'enable_proxy_protocol 2', expected it at the proxy, which ends TLS"
                )
            } else {
                format!("'{keyword}' without TLS, expected 'certfile' and 'keyfile' for the same listener")
            };
            report(pending, keyword, &text, findings);
        }
    }
}

fn check_websocket(pending: &PendingListener, findings: &mut Vec<Finding>) {
    if pending.options.is_websocket && !cfg!(feature = "websocket") {
        report(pending, "protocol", "this binary was built without WebSocket (feature websocket)", findings);
    }
    if !pending.options.is_websocket && !pending.options.origins.is_empty() {
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
                let text =
                    "'enable_proxy_protocol 2' and 'certfile', expected one of them: the proxy ends TLS";
                report(pending, "enable_proxy_protocol", text, findings);
            }
            Some(Proxy::V2 { requires_tls })
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

/// What a header says is believed. Where it decides who a client is or whether it may come in, the operator has to say
/// whose headers those are; a socket in the file system is for those whom its directory lets in.
fn check_source(pending: &PendingListener, findings: &mut Vec<Finding>) {
    let Some(place) = pending.options.said.place("enable_proxy_protocol") else { return };
    if !pending.options.proxies.is_empty() || pending.path.is_some() {
        return;
    }
    let is_told_of_tls =
        matches!(pending.options.proxy, Some(Proxy::V2 { .. })) && pending.options.certificate.is_none();
    let believed = [
        ("use_identity_as_username", pending.options.identity_is_user_name),
        ("proxy_protocol_v2_require_tls", pending.options.proxy_requires_tls),
    ];
    let believed = believed.into_iter().filter(|&(_, is_said)| is_said && is_told_of_tls);
    for (keyword, _) in believed.clone() {
        let text = format!(
            "'{keyword}' believes anybody that reaches this listener, expected the address of the proxy in \
             'proxy_trusted_source'"
        );
        report(pending, keyword, &text, findings);
    }
    if believed.count() == 0 && !is_local(pending) {
        let text = "whoever reaches this listener can claim to be any address, as no 'proxy_trusted_source' is given";
        findings.push(Finding::warning(place, text));
    }
}

/// Whether a listener can be reached from this machine alone.
fn is_local(pending: &PendingListener) -> bool {
    let is_loopback = |host: &String| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    pending.path.is_some() || pending.host.as_ref().is_some_and(is_loopback)
}
