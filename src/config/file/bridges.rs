//! Converts pending bridges to final settings: checks combinations and fills in derived values.

use std::ops::RangeInclusive;

use crate::base::time::Duration;
use crate::protocol::topic::TopicName;
use crate::protocol::utf8::is_sound;
use crate::settings::{Bridge, BridgeTopic, ClientTls, Notifications, Restart, Settings, Start, Trust};

use super::outcome::{Finding, Place};
use super::pending::{PendingBridge, StartType};
use super::values::{bound, seconds};

/// Adds the bridges to the other settings, which are final. The name of this machine is a part of Client Identifiers.
pub(super) fn with_bridges(
    mut settings: Settings,
    pending: Vec<PendingBridge>,
    host_name: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Settings {
    let receive_maximum = settings.limits.receive_maximum;
    let has_rules = settings.listeners.iter().any(|listener| listener.security.access.is_some());
    let mut places = Vec::new();
    for bridge in pending {
        let mut completion = Completion { pending: &bridge, bridge: bridge.settings.clone(), findings };
        completion.complete(host_name, receive_maximum, has_rules);
        let complete = completion.bridge;
        check_local_client_identifier(&bridge, &complete, &settings.bridges, &places, findings);
        settings.bridges.push(complete);
        places.push(bridge.place);
    }
    settings
}

/// Two bridges cannot share a session.
fn check_local_client_identifier(
    pending: &PendingBridge,
    bridge: &Bridge,
    others: &[Bridge],
    places: &[Place],
    findings: &mut Vec<Finding>,
) {
    let identifier = &bridge.local.client_identifier;
    let mut others = others.iter().zip(places);
    // A name that is given twice was reported already.
    let same =
        others.find(|(other, _)| other.local.client_identifier == *identifier && other.name != bridge.name);
    let Some((other, other_place)) = same else { return };
    let place = pending.places.place("local_clientid").or(pending.places.place("remote_clientid"));
    let place = place.unwrap_or(&pending.place);
    let text = format!(
        "the local Client Identifier '{identifier}' is also that of bridge '{}' in {}, expected a different \
         'local_clientid'",
        other.name,
        other_place.line_for(place)
    );
    findings.push(Finding::error(place, text));
}

/// The conversion of one bridge.
struct Completion<'a> {
    pending: &'a PendingBridge,
    bridge: Bridge,
    findings: &'a mut Vec<Finding>,
}

impl Completion<'_> {
    fn complete(&mut self, host_name: Option<&str>, receive_maximum: u16, has_rules: bool) {
        self.check_complete();
        self.check_users(has_rules);
        self.complete_remote(host_name, receive_maximum);
        let pending = self.pending;
        let keep_alive = Duration::from_seconds(self.bridge.remote.keep_alive.into());
        self.bridge.local.is_clean = pending.is_clean_locally.unwrap_or(self.bridge.remote.is_clean);
        self.bridge.local.client_identifier = match &pending.local_client_identifier {
            Some(identifier) => identifier.clone(),
            None => format!("local.{}", self.bridge.remote.client_identifier).into(),
        };
        self.bridge.tcp_user_timeout = match pending.tcp_user_timeout {
            None => Some(keep_alive),
            Some(0) => None,
            Some(milliseconds) => Some(Duration::from_milliseconds(milliseconds.into())),
        };
        self.bridge.topics = self.topics();
        self.bridge.notifications = self.notifications();
        self.bridge.start = self.start();
        self.bridge.restart = self.restart();
        self.bridge.tls = self.tls();
    }

    fn complete_remote(&mut self, host_name: Option<&str>, receive_maximum: u16) {
        let pending = self.pending;
        let keep_alive = self.within("keepalive_interval", pending.keep_alive, 5..=65_535);
        let client_identifier = self.client_identifier(host_name);
        let remote = &mut self.bridge.remote;
        remote.client_identifier = client_identifier;
        remote.keep_alive = u16::try_from(keep_alive).unwrap_or(u16::MAX);
        remote.session_expiry = pending.session_expiry.unwrap_or(if remote.is_clean { 0 } else { u32::MAX });
        remote.receive_maximum = pending.receive_maximum.unwrap_or(receive_maximum);
    }

    fn error_at(&mut self, keyword: &str, text: impl Into<String>) {
        let place = self.pending.places.place(keyword).unwrap_or(&self.pending.place);
        self.findings.push(Finding::error(place, text));
    }

    fn warn_at(&mut self, keyword: &str, text: impl Into<String>) {
        let place = self.pending.places.place(keyword).unwrap_or(&self.pending.place);
        self.findings.push(Finding::warning(place, text));
    }

    /// Raises or lowers a number to a range, with a warning as in mosquitto.
    fn within(&mut self, keyword: &str, number: i64, range: RangeInclusive<i64>) -> i64 {
        let (least, most) = range.into_inner();
        let used = number.clamp(least, most);
        if used != number {
            let bound = if number < least { "least" } else { "most" };
            let text = format!("'{keyword}' is {number}, expected at {bound} {used}, which is used instead");
            self.warn_at(keyword, text);
        }
        used
    }

    fn check_complete(&mut self) {
        let PendingBridge { place, places, .. } = self.pending;
        // A `connection` without a name was reported already.
        if self.bridge.name.is_empty() {
            return;
        }
        for keyword in ["address", "topic"] {
            if places.place(keyword).is_none() {
                let text = format!("bridge '{}' has no '{keyword}', expected at least one", self.bridge.name);
                self.findings.push(Finding::error(place, text));
            }
        }
    }

    fn check_users(&mut self, has_rules: bool) {
        let Bridge { name, remote, local, .. } = &self.pending.settings;
        if remote.password.is_some() && remote.user_name.is_none() {
            self.error_at(
                "remote_password",
                "'remote_password' without 'remote_username', expected both or neither",
            );
        }
        if local.password.is_some() && local.user_name.is_none() {
            self.warn_at("local_password", "'local_password' has no effect without 'local_username'");
        }
        if has_rules && local.user_name.is_none() {
            let text = format!("access rules do not apply to bridge '{name}', which has no 'local_username'");
            self.findings.push(Finding::warning(&self.pending.place, text));
        }
    }

    /// The Client Identifier at the other broker. The order of its parts is that of mosquitto.
    fn client_identifier(&mut self, host_name: Option<&str>) -> Box<str> {
        if let Some(identifier) = &self.pending.remote_client_identifier {
            return identifier.clone();
        }
        let Some(host) = host_name.filter(|host| !host.is_empty() && is_sound(host)) else {
            self.error_at("connection", "this machine has no name, expected 'remote_clientid'");
            return Box::default();
        };
        format!("{host}.{}", self.bridge.name).into()
    }

    /// The rules without duplicates, which have no effect.
    fn topics(&mut self) -> Vec<BridgeTopic> {
        let mut topics = Vec::new();
        for (place, topic) in &self.pending.topics {
            if topics.contains(topic) {
                self.findings
                    .push(Finding::warning(place, "the same 'topic' is given twice for this bridge"));
            } else {
                topics.push(topic.clone());
            }
        }
        topics
    }

    fn notifications(&mut self) -> Option<Notifications> {
        let pending = self.pending;
        if !pending.has_notifications {
            return None;
        }
        let topic = match &pending.notification_topic {
            Some(topic) => topic.clone(),
            None => format!("$SYS/broker/connection/{}/state", self.bridge.remote.client_identifier).into(),
        };
        if TopicName::new(&topic).is_err() {
            let text = format!(
                "'{topic}' is no topic, expected a 'notification_topic' or a 'remote_clientid' without '+' and '#'"
            );
            self.error_at("remote_clientid", text);
        }
        Some(Notifications { topic, is_local_only: pending.notifies_locally_only })
    }

    fn start(&mut self) -> Start {
        const ANY_MORE: i64 = 0x7FFF_FFFF;
        let pending = self.pending;
        let threshold = self.within("threshold", pending.threshold, 1..=ANY_MORE);
        let idle = self.within("idle_timeout", pending.idle_timeout, 1..=ANY_MORE);
        match pending.start {
            StartType::Automatic => Start::Automatic,
            StartType::Lazy => Start::Lazy { threshold: bound(threshold), idle: seconds(idle) },
            StartType::Once => Start::Once,
        }
    }

    fn restart(&mut self) -> Restart {
        let restart = self.pending.restart;
        let least = self.within("restart_timeout", restart.base, 1..=3_600);
        let most = restart.cap.unwrap_or(least);
        if most < least {
            let text = format!("the longest wait of 'restart_timeout' is {most}, expected at least {least}");
            self.error_at("restart_timeout", text);
        }
        let most = self.within("restart_timeout", most, least.min(most)..=7_200);
        Restart { least: seconds(least), most: seconds(most), stable: seconds(restart.stable) }
    }

    fn tls(&mut self) -> Option<ClientTls> {
        let pending = self.pending;
        let tls = &pending.tls;
        let has_trust = tls.trust.authorities.is_some() || tls.trust.authorities_directory.is_some();
        if !has_trust && !tls.trusts_system {
            self.check_no_tls();
            return None;
        }
        let keywords = ["bridge_cafile", "bridge_capath", "bridge_tls_use_os_certs"];
        let (keyword, place) = keywords
            .into_iter()
            .find_map(|keyword| Some((keyword, pending.places.place(keyword)?)))
            .unwrap_or(("connection", &pending.place));
        if !cfg!(feature = "tls") {
            self.error_at(keyword, "this binary was built without TLS (feature tls)");
        }
        if tls.ignores_name {
            let text = format!(
                "bridge '{}' accepts a certificate for any name, so any holder of a trusted certificate can read and change its messages",
                self.bridge.name
            );
            self.warn_at("bridge_insecure", text);
        }
        let identity = match (&pending.certificate, &pending.key) {
            (Some(certificate), Some(key)) => Some([certificate.clone(), key.clone()]),
            (Some(_), None) => {
                self.error_at("bridge_certfile", "'bridge_certfile' without 'bridge_keyfile', expected both");
                None
            }
            (None, Some(_)) => {
                self.error_at("bridge_keyfile", "'bridge_keyfile' without 'bridge_certfile', expected both");
                None
            }
            (None, None) => None,
        };
        let place = format!("{}:{}", place.file, place.line);
        Some(ClientTls { trust: Trust { place, ..tls.trust.clone() }, identity, ..tls.clone() })
    }

    /// Reports options of TLS for a bridge without TLS. They must not be ignored silently.
    fn check_no_tls(&mut self) {
        let PendingBridge { tls, certificate, key, places, .. } = self.pending;
        for (keyword, is_set) in [
            ("bridge_certfile", certificate.is_some()),
            ("bridge_keyfile", key.is_some()),
            ("bridge_insecure", tls.ignores_name),
            ("bridge_alpn", tls.alpn.is_some()),
            ("bridge_tls_version", places.place("bridge_tls_version").is_some()),
        ] {
            if is_set {
                let text = format!(
                    "'{keyword}' without TLS, expected 'bridge_cafile', 'bridge_capath' or 'bridge_tls_use_os_certs'"
                );
                self.error_at(keyword, text);
            }
        }
    }
}
