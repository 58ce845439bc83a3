//! Drafts to settings: defaults are filled in, and what has to fit together is checked.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::escape::Escaped;
use crate::base::time::Duration;
use crate::core::limits::{IN_FLIGHT_MAXIMUM, Limits};
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::core::switches::Switches;
use crate::protocol::codec::PACKET_SIZE_MAXIMUM;
use crate::protocol::proxy::Proxy;
use crate::settings::{
    Address, Family, Listener, Log, LogDestination, LogKinds, LogTime, PERSISTENCE_FILE, Persistence,
    Process, Protocol, Security, Settings, Tls,
};

use super::drafts::{CommandLine, Globals, ListenerDraft, SecurityDraft, Verbosity};
use super::settle::Settler;
use super::values::{ALL_KINDS, NO_KINDS};
use super::{Finding, Place};

/// The port of MQTT without TLS.
const DEFAULT_PORT: u16 = 1883;
/// Bytes that a topic and its properties may add to a payload.
const BESIDE_PAYLOAD: usize = 64 * 1024;
/// Bytes of the HTTP request of a WebSocket.
const WEBSOCKET_HEADERS: usize = 8 * 1024;
/// What Client Identifiers that the broker draws begin with.
const DRAWN_PREFIX: &str = "auto-";

/// Everything that was said, as settings.
pub(super) fn settings(mut settler: Settler, given: &CommandLine) -> (Settings, Vec<Finding>) {
    let globals = std::mem::take(&mut settler.globals);
    let mut findings = std::mem::take(&mut settler.findings);
    let limits = limits(&globals, given);
    let mut builder = Builder {
        globals: &globals,
        common: &settler.security,
        limits: &limits,
        key_log: given.key_log.as_deref(),
        shared: Vec::new(),
    };
    if let Some(path) = &given.key_log {
        let place = Place { file: "--tls-keylog".into(), line: 0, column: 0 };
        let text = format!("whoever can read '{path}' can read what is said by TLS, passwords included");
        findings.push(Finding::warning(&place, text));
    }
    let listeners = builder.listeners(&settler, given, &mut findings);
    #[cfg(not(feature = "persistence"))]
    check_persistence(&globals, &mut findings);
    let settings = Settings {
        listeners,
        limits,
        switches: Switches {
            retain_available: globals.is_retain_available,
            queues_at_most_once: globals.queues_at_most_once,
            raises_qos: globals.raises_qos,
        },
        log: log(&globals, given),
        system_interval: Some(globals.system_interval)
            .filter(|&seconds| seconds > 0)
            .map(|seconds| Duration::from_seconds(seconds.into())),
        persistence: persistence(&globals, given),
        process: process(&globals, given, &mut findings),
    };
    (settings, findings)
}

fn limits(globals: &Globals, given: &CommandLine) -> Limits {
    let default = Limits::default();
    let bound =
        |said: Option<usize>, default: usize| said.filter(|&count| count < usize::MAX).unwrap_or(default);
    let of_message = globals.message_size.map(|size| size.saturating_add(BESIDE_PAYLOAD));
    // Whoever allows large payloads and says nothing of packets means that they fit.
    let packet_size = globals
        .packet_size
        .unwrap_or_else(|| of_message.map_or(default.packet_size, |size| size.max(default.packet_size)))
        .min(PACKET_SIZE_MAXIMUM);
    Limits {
        memory: given.memory_limit.or(globals.memory_limit),
        packet_size,
        payload_size: globals.message_size.unwrap_or(default.payload_size),
        connect_packet_size: default.connect_packet_size.min(packet_size),
        connections: bound(globals.connections, default.connections),
        sessions: bound(globals.sessions, default.sessions),
        queue_length: globals.queue_length.unwrap_or(default.queue_length),
        // Who counts messages means all of them.
        burst_bytes: globals.queue_length.map_or(default.burst_bytes, |_| 0),
        queue_bytes: globals.queue_bytes.unwrap_or(default.queue_bytes),
        subscriptions_per_session: globals.subscriptions.unwrap_or(default.subscriptions_per_session),
        matches_per_session: globals.matches.unwrap_or(default.matches_per_session),
        in_flight: globals.in_flight.map_or(default.in_flight, |most| most.min(IN_FLIGHT_MAXIMUM)),
        receive_maximum: globals.in_flight.unwrap_or(default.receive_maximum),
        session_expiry_maximum: globals.session_expiry.unwrap_or(default.session_expiry_maximum),
        keep_alive_maximum: globals.keep_alive.unwrap_or(default.keep_alive_maximum),
        retry_interval: globals.retry_interval.unwrap_or(default.retry_interval),
        ..default
    }
}

fn log(globals: &Globals, given: &CommandLine) -> Log {
    let normal = LogKinds { error: true, warning: true, notice: true, information: true, ..NO_KINDS };
    let mut destinations =
        globals.log_destinations.clone().unwrap_or_else(|| vec![LogDestination::StandardError]);
    for destination in &mut destinations {
        if let LogDestination::Syslog(facility) = destination {
            *facility = globals.log_facility;
        }
    }
    Log {
        destinations,
        kinds: match given.verbosity {
            Verbosity::Quiet => LogKinds { error: true, ..NO_KINDS },
            Verbosity::Verbose => ALL_KINDS,
            Verbosity::Normal => globals.log_kinds.unwrap_or(normal),
        },
        time: match &globals.log_format {
            _ if !globals.has_log_time => LogTime::None,
            Some(format) => LogTime::Format(format.clone()),
            None => LogTime::Epoch,
        },
        has_connections: globals.has_connection_messages,
    }
}

fn persistence(globals: &Globals, given: &CommandLine) -> Option<Persistence> {
    globals.is_persistent.then(|| Persistence {
        directory: given
            .persistence_location
            .as_ref()
            .or(globals.persistence_location.as_ref())
            .map_or_else(|| PathBuf::from("."), PathBuf::from),
        file: globals.persistence_file.clone().unwrap_or_else(|| PERSISTENCE_FILE.to_owned()),
        durability: globals.durability,
        commit_delay: Duration::from_milliseconds(globals.commit_delay.into()),
        on_damage: globals.on_damage,
    })
}

fn process(globals: &Globals, given: &CommandLine, findings: &mut Vec<Finding>) -> Process {
    Process {
        user: globals.user.clone(),
        user_number: number("PUID", given.user_number.as_deref(), 10, 1..=u32::MAX - 1, findings),
        group_number: number("PGID", given.group_number.as_deref(), 10, 1..=u32::MAX - 1, findings),
        file_mask: number("UMASK_SET", given.file_mask.as_deref(), 8, 0..=0o777, findings),
        pid_file: globals.pid_file.clone().map(PathBuf::from),
        is_daemon: given.is_daemon,
    }
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
    common: &'a SecurityDraft,
    limits: &'a Limits,
    /// Where the keys of TLS connections go.
    key_log: Option<&'a str>,
    /// What was made so far, for listeners that are alike to share.
    shared: Vec<Rc<Security>>,
}

impl Builder<'_> {
    fn listeners(
        &mut self,
        settler: &Settler,
        given: &CommandLine,
        findings: &mut Vec<Finding>,
    ) -> Vec<Listener> {
        let Settler { unnamed, listeners: named, .. } = settler;
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
        let mut drafts: Vec<&ListenerDraft> = named.iter().collect();
        if unnamed.place.is_some() || !unnamed.says_nothing() {
            drafts.insert(0, unnamed);
        }
        check_unnamed(unnamed, findings);
        check_ports(&drafts, findings);
        check_names(&drafts, findings);
        for draft in drafts {
            let place = draft.place.as_ref().or_else(|| draft.said.first().map(|(_, place)| place));
            let place = place.map_or_else(String::new, |place| format!("{}:{}", place.file, place.line));
            let listener = self.listener(draft, address(draft), place, findings);
            self.warn_of_likeness(draft, &listener, &listeners, findings);
            listeners.push(listener);
        }
        listeners
    }

    /// What is kept belongs to a listener by what it is known by, which should be its own.
    fn warn_of_likeness(
        &self,
        draft: &ListenerDraft,
        listener: &Listener,
        others: &[Listener],
        findings: &mut Vec<Finding>,
    ) {
        let identity = listener.identity();
        if self.globals.is_persistent
            && others.iter().any(|other| other.identity() == identity)
            && let Some(place) = &draft.place
        {
            let text = "it can not be told from one before it once the order changes, expected a 'listener_name' for both";
            findings.push(Finding::warning(place, text));
        }
    }

    fn listener(
        &mut self,
        draft: &ListenerDraft,
        address: Address,
        place: String,
        findings: &mut Vec<Finding>,
    ) -> Listener {
        let is_local = matches!(address, Address::Loopback { .. });
        check_websocket(draft, findings);
        Listener {
            place,
            name: draft.name.as_deref().map(Box::from),
            address,
            interface: draft.interface.clone(),
            protocol: if draft.is_websocket {
                Protocol::WebSocket {
                    origins: draft.origins.clone(),
                    headers: self.globals.websocket_headers.unwrap_or(WEBSOCKET_HEADERS),
                }
            } else {
                Protocol::Mqtt
            },
            tls: tls(draft, self.key_log, findings),
            proxy: proxy(draft, findings),
            proxies: draft.proxies.clone(),
            connections: draft.connections,
            rules: Rc::new(self.rules(draft)),
            security: self.security(draft, is_local),
        }
    }

    fn rules(&self, draft: &ListenerDraft) -> ListenerOptions {
        let Self { globals, common, limits, .. } = self;
        let drawn_prefix = draft
            .own_drawn_prefix
            .as_deref()
            .or(draft.security.drawn_prefix.as_deref())
            .or(common.drawn_prefix.as_deref());
        ListenerOptions {
            versions: draft.versions,
            maximum_qos: draft.maximum_qos,
            packet_size: limits.packet_size,
            keep_alive_maximum: limits.keep_alive_maximum,
            topic_alias_maximum: draft.topic_aliases,
            outbound_topic_alias_maximum: draft.outbound_topic_aliases,
            mount_point: draft.mount_point.as_deref().map(Box::from),
            allows_empty_client_identifier: draft
                .security
                .allows_empty_client_identifier
                .or(common.allows_empty_client_identifier)
                .unwrap_or(true),
            drawn_prefix: drawn_prefix.unwrap_or(DRAWN_PREFIX).into(),
            user_name_is_client_identifier: draft.user_name_is_client_identifier,
            client_identifier_prefixes: globals.client_identifier_prefix.iter().cloned().collect(),
            user_name: match (draft.identity_is_user_name, draft.subject_is_user_name) {
                (_, true) => UserNameSource::Subject,
                (true, false) => UserNameSource::CommonName,
                (false, false) => UserNameSource::Connect,
            },
        }
    }

    /// Whoever has users but has not said whether others may come in as well does not want them; without users,
    /// those on this machine may.
    fn security(&mut self, draft: &ListenerDraft, is_local: bool) -> Rc<Security> {
        let own = &draft.security;
        let passwords = own.passwords.as_ref().or(self.common.passwords.as_ref());
        let said = draft.own_anonymous.or(own.allows_anonymous).or(self.common.allows_anonymous);
        let security = Security {
            allows_anonymous: said.unwrap_or(is_local && passwords.is_none()),
            passwords: passwords.map(PathBuf::from),
            access: own.access.as_ref().or(self.common.access.as_ref()).map(PathBuf::from),
            checks_retain_source: self.globals.checks_retain_source,
            password_attempts: self
                .globals
                .password_attempts
                .unwrap_or(Security::default().password_attempts),
        };
        if let Some(same) = self.shared.iter().find(|other| ***other == security) {
            return same.clone();
        }
        let security = Rc::new(security);
        self.shared.push(security.clone());
        security
    }
}

fn address(draft: &ListenerDraft) -> Address {
    match &draft.path {
        Some(path) => Address::Unix { path: path.into() },
        None => Address::Internet {
            host: draft.host.clone(),
            port: draft.port.unwrap_or(DEFAULT_PORT),
            family: draft.family,
        },
    }
}

/// Where something was said of a listener; where the listener itself stands, failing that.
fn place_of(draft: &ListenerDraft, keyword: &str) -> Option<Place> {
    draft.said.place(keyword).or(draft.place.as_ref()).cloned()
}

fn complain(draft: &ListenerDraft, keyword: &str, text: &str, findings: &mut Vec<Finding>) {
    if let Some(place) = place_of(draft, keyword) {
        findings.push(Finding::error(&place, text));
    }
}

fn tls(draft: &ListenerDraft, key_log: Option<&str>, findings: &mut Vec<Finding>) -> Option<Tls> {
    let (certificate, key) = match (&draft.certificate, &draft.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            complain(
                draft,
                "certfile",
                "'certfile' without 'keyfile', expected both for a listener",
                findings,
            );
            return None;
        }
        (None, Some(_)) => {
            complain(
                draft,
                "keyfile",
                "'keyfile' without 'certfile', expected both for a listener",
                findings,
            );
            return None;
        }
        (None, None) => {
            check_no_tls(draft, findings);
            return None;
        }
    };
    if !cfg!(feature = "tls") {
        complain(draft, "certfile", "this binary was built without TLS (feature tls)", findings);
    }
    if draft.requires_certificate && draft.authorities.is_none() && draft.authorities_directory.is_none() {
        let text = "'require_certificate' without 'cafile' or 'capath', expected one of them to check certificates with";
        complain(draft, "require_certificate", text, findings);
    }
    Some(Tls {
        certificate: certificate.into(),
        key: key.into(),
        authorities: draft.authorities.as_ref().map(PathBuf::from),
        authorities_directory: draft.authorities_directory.as_ref().map(PathBuf::from),
        revoked: draft.revoked.as_ref().map(PathBuf::from),
        requires_certificate: draft.requires_certificate,
        is_1_3_only: draft.is_1_3_only,
        key_log: key_log.map(PathBuf::from),
    })
}

/// What somebody has said of TLS must not be passed over in silence where there is none.
fn check_no_tls(draft: &ListenerDraft, findings: &mut Vec<Finding>) {
    let is_proxied = matches!(draft.proxy, Some(Proxy::V2 { .. }));
    for (keyword, is_said) in [
        ("cafile", draft.authorities.is_some()),
        ("capath", draft.authorities_directory.is_some()),
        ("crlfile", draft.revoked.is_some()),
        ("require_certificate", draft.requires_certificate),
        ("use_identity_as_username", draft.identity_is_user_name && !is_proxied),
        ("use_subject_as_username", draft.subject_is_user_name),
    ] {
        if is_said {
            let text = if is_proxied {
                format!(
                    "'{keyword}' with 'enable_proxy_protocol 2', expected it at the proxy, which ends TLS"
                )
            } else {
                format!("'{keyword}' without TLS, expected 'certfile' and 'keyfile' for the same listener")
            };
            complain(draft, keyword, &text, findings);
        }
    }
}

fn check_websocket(draft: &ListenerDraft, findings: &mut Vec<Finding>) {
    if draft.is_websocket && !cfg!(feature = "websocket") {
        complain(draft, "protocol", "this binary was built without WebSocket (feature websocket)", findings);
    }
    if !draft.is_websocket && !draft.origins.is_empty() {
        let text = "'websockets_origin' without 'protocol websockets', expected it for the same listener";
        complain(draft, "websockets_origin", text, findings);
    }
}

fn proxy(draft: &ListenerDraft, findings: &mut Vec<Finding>) -> Option<Proxy> {
    let requires_tls = draft.proxy_requires_tls;
    if draft.proxy.is_none() && !draft.proxies.is_empty() {
        let text = "'proxy_trusted_source' without 'enable_proxy_protocol', expected both";
        complain(draft, "proxy_trusted_source", text, findings);
    }
    check_source(draft, findings);
    match draft.proxy {
        Some(Proxy::V2 { .. }) => {
            if draft.certificate.is_some() {
                let text =
                    "'enable_proxy_protocol 2' and 'certfile', expected one of them: the proxy ends TLS";
                complain(draft, "enable_proxy_protocol", text, findings);
            }
            Some(Proxy::V2 { requires_tls })
        }
        proxy => {
            if requires_tls {
                let text = "'proxy_protocol_v2_require_tls' without 'enable_proxy_protocol 2', expected both";
                complain(draft, "proxy_protocol_v2_require_tls", text, findings);
            }
            proxy
        }
    }
}

/// What a header says is believed. Where it decides who a client is or whether it may come in, the operator has to say
/// whose headers those are; a socket in the file system is for those whom its directory lets in.
fn check_source(draft: &ListenerDraft, findings: &mut Vec<Finding>) {
    let Some(place) = draft.said.place("enable_proxy_protocol") else { return };
    if !draft.proxies.is_empty() || draft.path.is_some() {
        return;
    }
    let is_told_of_tls = matches!(draft.proxy, Some(Proxy::V2 { .. })) && draft.certificate.is_none();
    let believed = [
        ("use_identity_as_username", draft.identity_is_user_name),
        ("proxy_protocol_v2_require_tls", draft.proxy_requires_tls),
    ];
    let believed = believed.into_iter().filter(|&(_, is_said)| is_said && is_told_of_tls);
    for (keyword, _) in believed.clone() {
        let text = format!(
            "'{keyword}' believes anybody that reaches this listener, expected the address of the proxy in \
             'proxy_trusted_source'"
        );
        complain(draft, keyword, &text, findings);
    }
    if believed.count() == 0 && !is_local(draft) {
        let text = "whoever reaches this listener can claim to be any address, as no 'proxy_trusted_source' is given";
        findings.push(Finding::warning(place, text));
    }
}

/// Whether a listener can be reached from this machine alone.
fn is_local(draft: &ListenerDraft) -> bool {
    let is_loopback = |host: &String| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    draft.path.is_some() || draft.host.as_ref().is_some_and(is_loopback)
}

/// Options before any `listener` are about a listener of their own; whoever has others surely did not mean that.
fn check_unnamed(unnamed: &ListenerDraft, findings: &mut Vec<Finding>) {
    if unnamed.place.is_some() {
        return;
    }
    for (keyword, place) in unnamed.said.iter() {
        let text = if unnamed.says_nothing() {
            format!("'{keyword}' before every 'listener' is about none of them, expected it behind one")
        } else {
            format!("'{keyword}' before every 'listener' makes another one at port {DEFAULT_PORT}")
        };
        findings.push(Finding::warning(place, text));
    }
}

/// Finds pairs that can not be bound side by side.
fn check_ports(drafts: &[&ListenerDraft], findings: &mut Vec<Finding>) {
    for (index, draft) in drafts.iter().enumerate() {
        let Some(other) = drafts[..index].iter().find(|other| collide(other, draft)) else { continue };
        let (earlier, draft) = in_order(other, draft);
        let what = match &draft.path {
            Some(path) => format!("socket '{path}'"),
            None => format!("port {}", draft.port.unwrap_or(DEFAULT_PORT)),
        };
        let Some(place) = &draft.place else { continue };
        let text = match (&earlier.place, earlier.said.first()) {
            (Some(other), _) => {
                format!("{what} is given twice, expected once (it was in {})", other.line_for(place))
            }
            (None, Some((keyword, other))) => format!(
                "{what} is given twice: '{keyword}' in {} stands before every 'listener' and so makes one at port \
                 {DEFAULT_PORT} of its own, expected behind its listener",
                other.line_for(place)
            ),
            (None, None) => format!("{what} is given twice, expected once"),
        };
        findings.push(Finding::error(place, text));
    }
}

/// The one that stands first in the file, and the other; the unnamed one has its place in front of the named.
fn in_order<'a>(one: &'a ListenerDraft, other: &'a ListenerDraft) -> (&'a ListenerDraft, &'a ListenerDraft) {
    match (&one.place, &other.place) {
        (Some(first), Some(second)) if first.file == second.file && first.line > second.line => (other, one),
        _ => (one, other),
    }
}

/// A name stands for one listener.
fn check_names(drafts: &[&ListenerDraft], findings: &mut Vec<Finding>) {
    for (count, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.name else { continue };
        let is_taken = drafts[..count].iter().any(|other| other.name.as_ref() == Some(name));
        if is_taken && let Some(place) = draft.said.place("listener_name") {
            let text = format!("listener_name '{}' is given twice, expected once", Escaped(name));
            findings.push(Finding::error(place, text));
        }
    }
}

fn collide(one: &ListenerDraft, other: &ListenerDraft) -> bool {
    if one.path.is_some() || other.path.is_some() {
        return one.path == other.path;
    }
    let port = one.port.unwrap_or(DEFAULT_PORT);
    port != 0
        && port == other.port.unwrap_or(DEFAULT_PORT)
        && (one.interface.is_none() || other.interface.is_none() || one.interface == other.interface)
        && (hosts_overlap(one, other))
}

fn hosts_overlap(one: &ListenerDraft, other: &ListenerDraft) -> bool {
    let (Some(first), Some(second)) = (family(one), family(other)) else {
        return one.host.is_none() || other.host.is_none() || one.host == other.host;
    };
    if first != second {
        return false;
    }
    let is_any = |draft: &ListenerDraft| {
        draft
            .host
            .as_ref()
            .is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()))
    };
    is_any(one) || is_any(other) || one.host == other.host
}

/// The one family of addresses that a listener is bound to, if it is one.
fn family(draft: &ListenerDraft) -> Option<Family> {
    match draft.host.as_ref().and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(_)) => Some(Family::V4),
        Some(IpAddr::V6(_)) => Some(Family::V6),
        None => Some(draft.family).filter(|&family| family != Family::Both),
    }
}
