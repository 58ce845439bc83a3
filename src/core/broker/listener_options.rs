//! What the listener of a client determines: its User Name and Client Identifier, and what it is granted.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use super::decisions::Decisions;
use super::{Broker, Fault};
use crate::base::peer::Peer;
use crate::base::plural::Count;
use crate::core::connection::State;
use crate::core::limits::Limits;
use crate::core::listener::{ListenerId, ListenerOptions, UserNameSource};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::switches::Switches;
use crate::protocol::codec::{Connect, ProtocolVersion, Publish, QoS, ReasonCode, Will};
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::protocol::utf8;

/// The options of all listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    /// By the number of the listener.
    said: Vec<Rc<ListenerOptions>>,
    /// The options of listeners for which none were set.
    unsaid: Rc<ListenerOptions>,
    /// Whether the limits restrict what is published.
    limits_concern_publish: bool,
    /// Whether these or the options of any listener restrict or change what is published. Cached so that callers need
    /// not examine all of them.
    concern_publish: bool,
}

impl Listeners {
    pub(super) fn new(limits: &Limits) -> Self {
        let unsaid = Rc::new(ListenerOptions::within(limits));
        let mut book =
            Self { said: Vec::new(), unsaid, limits_concern_publish: false, concern_publish: false };
        book.apply(limits, Switches::default());
        book
    }

    /// Notes what holds for the whole broker from now on.
    pub(super) fn apply(&mut self, limits: &Limits, switches: Switches) {
        self.limits_concern_publish = !switches.retain_available || limits.payload_size < usize::MAX;
        self.note_concerns();
    }

    /// Determines again what has to be checked, so that no check stays that a reload has removed.
    fn note_concerns(&mut self) {
        let is_concerned = |options: &Rc<ListenerOptions>| {
            options.mount_point.is_some() || options.maximum_qos < QoS::ExactlyOnce
        };
        self.concern_publish = self.limits_concern_publish || self.said.iter().any(is_concerned);
    }

    /// Whether anything restricts or changes what is published.
    #[inline]
    pub(super) const fn concern_publish(&self) -> bool {
        self.concern_publish
    }

    /// The options of one listener.
    #[inline]
    pub(super) fn of(&self, listener: ListenerId) -> &Rc<ListenerOptions> {
        self.said.get(usize::from(listener.0)).unwrap_or(&self.unsaid)
    }

    fn set(&mut self, listener: ListenerId, options: Rc<ListenerOptions>) {
        let index = usize::from(listener.0);
        while self.said.len() <= index {
            self.said.push(Rc::clone(&self.unsaid));
        }
        self.said[index] = options;
        self.note_concerns();
    }

    /// Retires a listener that has no client left and will get none, so its restrictions on messages no longer matter.
    /// How its clients were identified still does, because their sessions may remain.
    fn retire(&mut self, listener: ListenerId) {
        let options = ListenerOptions {
            maximum_qos: QoS::ExactlyOnce,
            mount_point: None,
            ..ListenerOptions::clone(self.of(listener))
        };
        self.set(listener, Rc::new(options));
    }

    /// The mount points by the number of the listener; empty if no listener has one.
    fn mount_points(&self) -> Vec<Option<Box<str>>> {
        let mut mounts: Vec<_> = self.said.iter().map(|options| options.mount_point.clone()).collect();
        let used = mounts.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        mounts.truncate(used);
        mounts
    }
}

/// What the server has learnt of a peer since it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The real address of the peer, if a proxy has reported it.
    pub peer: Option<Peer>,
    /// The name in the certificate that the peer has shown.
    pub identity: Option<Rc<str>>,
}

/// Why a CONNECT is refused.
pub(super) type Refusal = (ReasonCode, Cow<'static, str>);

/// Names a limit in a reason: its value, and the keyword that sets it.
pub(super) fn limit(value: impl fmt::Display, keyword: &str) -> String {
    format!("the limit is {value} ({keyword})")
}

/// The identity that the broker takes a client to have.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// Owned if it was assigned by the broker.
    pub(super) client_identifier: Cow<'a, str>,
    pub(super) user_name: Option<&'a str>,
    /// Whether the User Name was proved.
    pub(super) is_proved: bool,
}

impl Broker {
    /// The QoS at which a message is delivered to a session: the lower of the granted QoS and the QoS of the message
    /// [MQTT-3.8.4-8], unless the operator wants it otherwise.
    #[inline]
    pub(super) fn delivered_qos(&self, session: SessionId, granted: QoS, published: QoS) -> QoS {
        if self.options.switches.raises_qos {
            self.raised_qos(session, granted, published)
        } else {
            granted.min(published)
        }
    }

    /// Sets the options of a listener from now on. They do not change what connected clients were granted.
    pub fn set_listener_options(&mut self, listener: ListenerId, options: Rc<ListenerOptions>) {
        let _entered = self.account.enter();
        self.options.listeners.set(listener, options);
        self.clients.bridge_queues.look_again();
        self.output.sender.set_mounts(self.options.listeners.mount_points());
    }

    /// Retires a listener that is closed and whose last connection has ended.
    pub fn retire_listener(&mut self, listener: ListenerId) {
        let _entered = self.account.enter();
        self.options.listeners.retire(listener);
        self.output.sender.set_mounts(self.options.listeners.mount_points());
    }

    /// The address of the peer of a connection, as far as it is known by now.
    pub fn peer(&self, id: ConnectionId) -> Option<Peer> {
        self.connections.find(id).map(|connection| connection.peer())
    }

    /// Sets the address and the identity of a peer that a PROXY header or a certificate has given. Has no effect after
    /// a CONNECT was accepted.
    pub fn introduce(&mut self, id: ConnectionId, introduction: Introduction) {
        let _entered = self.account.enter();
        let Some(connection) = self.connections.find_mut(id) else { return };
        if connection.state != State::Greeting {
            return;
        }
        // At other listeners the certificate does not identify the client.
        let is_taken = self.options.listeners.of(connection.listener).user_name != UserNameSource::Connect;
        let peer = introduction.peer.unwrap_or_else(|| connection.peer());
        connection.introduce(peer, introduction.identity.filter(|_| is_taken));
    }

    /// The largest packet that a client of this listener may send, in bytes.
    pub(super) fn packet_size_maximum(&self, listener: ListenerId) -> usize {
        self.options.limits.packet_size.min(self.options.listeners.of(listener).packet_size)
    }

    /// Checks a PUBLISH, apart from its topic, against the options of the listener.
    pub(super) fn check_publish(&self, id: ConnectionId, publish: &Publish<'_>) -> Result<(), Fault> {
        let options = self.options.listeners.of(self.connections[id].listener);
        if publish.delivery.qos() > options.maximum_qos {
            // [MQTT-3.2.2-11]
            let limit = limit(options.maximum_qos.level(), "max_qos");
            return Err(Fault::new(ReasonCode::QoSNotSupported, format!("a QoS above the maximum, {limit}")));
        }
        if publish.retain && !self.options.switches.retain_available {
            // [MQTT-3.2.2-14]
            return Err(Fault::new(
                ReasonCode::RetainNotSupported,
                "retained messages are not supported (retain_available false)",
            ));
        }
        Ok(())
    }

    /// Checks a Will like a PUBLISH, but before anything has taken effect.
    fn check_will(&self, options: &ListenerOptions, will: &Will<'_>) -> Result<(), Refusal> {
        match () {
            // [MQTT-3.2.2-12]
            () if will.qos > options.maximum_qos => {
                let limit = limit(options.maximum_qos.level(), "max_qos");
                Err((
                    ReasonCode::QoSNotSupported,
                    format!("the QoS of the Will is above the maximum, {limit}").into(),
                ))
            }
            // [MQTT-3.2.2-13]
            () if will.retain && !self.options.switches.retain_available => Err((
                ReasonCode::RetainNotSupported,
                "the Will is to be retained (retain_available false)".into(),
            )),
            () if will.payload.len() > self.options.limits.payload_size => {
                let (length, limit) =
                    (will.payload.len(), limit(self.options.limits.payload_size, "message_size_limit"));
                let length = Count(length, "byte");
                let what = format!("the payload of the Will has {length}, {limit}");
                Err((ReasonCode::PacketTooLarge, what.into()))
            }
            () => Ok(()),
        }
    }

    /// Returns the filter of a client below the mount point of its listener; `None` without one. A Share Name stays
    /// where it is.
    pub(super) fn mounted(&self, listener: ListenerId, filter: TopicFilter<'_>) -> Option<String> {
        let mount = self.options.listeners.of(listener).mount_point.as_deref()?;
        Some(match filter.share_name() {
            Some(share_name) => format!("$share/{share_name}/{mount}{}", filter.pattern()),
            None => [mount, filter.pattern()].concat(),
        })
    }

    /// Determines whom this listener takes the client of a CONNECT for.
    pub(super) fn claim<'a>(
        &mut self,
        options: &ListenerOptions,
        identity: Option<&'a str>,
        connect: &Connect<'a>,
        decisions: &mut Decisions,
    ) -> Result<Claim<'a>, Refusal> {
        let is_spoken = match connect.version {
            ProtocolVersion::V31 => options.versions[0],
            ProtocolVersion::V311 => options.versions[1],
            ProtocolVersion::V5 => options.versions[2],
        };
        if !is_spoken {
            let what = "this listener does not accept this protocol version (accept_protocol_versions)";
            return Err((ReasonCode::UnsupportedProtocolVersion, what.into()));
        }
        if connect.version != ProtocolVersion::V5
            && granted_keep_alive(options, connect.keep_alive) != connect.keep_alive
        {
            let (wanted, limit) = (connect.keep_alive, limit(options.keep_alive_maximum, "max_keepalive"));
            let what =
                format!("a Keep Alive of {wanted} s, {limit}, and this protocol version cannot negotiate it");
            return Err((ReasonCode::ClientIdentifierNotValid, what.into()));
        }
        if let Some(will) = &connect.will {
            self.check_will(options, will)?;
        }
        let user_name = match (options.user_name, identity) {
            (UserNameSource::Connect, _) => connect.user_name,
            (_, Some(identity)) if is_user_name(identity) => Some(identity),
            (_, Some(_)) => {
                return Err((
                    ReasonCode::NotAuthorized,
                    "the name in the certificate is not a valid User Name".into(),
                ));
            }
            (_, None) => {
                return Err((
                    ReasonCode::NotAuthorized,
                    "there is no certificate with a name to take the User Name from".into(),
                ));
            }
        };
        let client_identifier = self.claimed_identifier(options, user_name, connect, decisions)?;
        let prefixes = &options.client_identifier_prefixes;
        if !prefixes.is_empty() && !prefixes.iter().any(|prefix| client_identifier.starts_with(&**prefix)) {
            return Err((
                ReasonCode::NotAuthorized,
                "the Client Identifier has none of the required prefixes (clientid_prefixes)".into(),
            ));
        }
        Ok(Claim { client_identifier, user_name, is_proved: false })
    }

    fn claimed_identifier<'a>(
        &mut self,
        options: &ListenerOptions,
        user_name: Option<&'a str>,
        connect: &Connect<'a>,
        decisions: &mut Decisions,
    ) -> Result<Cow<'a, str>, Refusal> {
        if options.user_name_is_client_identifier {
            return match user_name {
                Some(name) if !name.is_empty() => Ok(name.into()),
                _ => {
                    let what =
                        "there is no User Name to use as the Client Identifier (use_username_as_clientid)";
                    Err((ReasonCode::NotAuthorized, what.into()))
                }
            };
        }
        if !connect.client_identifier.is_empty() {
            return Ok(connect.client_identifier.into());
        }
        if !options.allows_empty_client_identifier {
            let what = "the Client Identifier must not be empty (allow_zero_length_clientid false)";
            return Err((ReasonCode::ClientIdentifierNotValid, what.into()));
        }
        let drawn = decisions
            .assigned
            .take()
            .unwrap_or_else(|| self.clients.draw_client_identifier(&options.auto_id_prefix));
        Ok(drawn.into())
    }
}

/// The Keep Alive that is granted to a client that wants this one; 5.0 can report another one [MQTT-3.1.2-21].
pub(super) fn granted_keep_alive(options: &ListenerOptions, wanted: u16) -> u16 {
    let longest = options.keep_alive_maximum;
    if wanted == 0 && longest < u16::MAX { longest } else { wanted.min(longest) }
}

/// The name that a client's topic has in the broker; `None` if it is the same.
pub(super) fn mounted_name(options: &ListenerOptions, topic: TopicName<'_>) -> Option<String> {
    options.mount_point.as_deref().map(|mount| [mount, topic.as_str()].concat())
}

/// Whether a text from a certificate would be valid in a CONNECT.
fn is_user_name(text: &str) -> bool {
    (1..=usize::from(u16::MAX)).contains(&text.len()) && utf8::is_sound(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Time;
    use crate::core::access::AllowAll;

    /// Whether messages are received and sent by the fast paths.
    fn is_short(broker: &Broker) -> bool {
        !broker.options.listeners.concern_publish() && !broker.output.sender.must_look()
    }

    #[test]
    fn options_that_were_taken_back_cost_nothing() {
        let within = || ListenerOptions::within(&Limits::default());
        let options: [ListenerOptions; 2] = [
            ListenerOptions { maximum_qos: QoS::AtLeastOnce, ..within() },
            ListenerOptions { mount_point: Some("house/".into()), ..within() },
        ];
        let said: [(Limits, Switches); 2] = [
            (Limits { payload_size: 100, ..Limits::default() }, Switches::default()),
            (Limits::default(), Switches { retain_available: false, ..Switches::default() }),
        ];
        let say = |broker: &mut Broker, (limits, switches): &(Limits, Switches)| {
            broker.set_limits(limits.clone());
            broker.set_switches(*switches);
        };
        let unsaid = (Limits::default(), Switches::default());
        let listener = ListenerId(2);
        let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
        assert!(is_short(&broker));
        for options in &options {
            for said in &said {
                say(&mut broker, said);
                assert!(!is_short(&broker));
                broker.set_listener_options(listener, Rc::new(options.clone()));
                say(&mut broker, &unsaid);
                assert!(!is_short(&broker), "the options are still there");
                say(&mut broker, said);
                broker.set_listener_options(listener, Rc::new(within()));
                assert!(!is_short(&broker), "the limits are still there");
                say(&mut broker, &unsaid);
                assert!(is_short(&broker), "all was taken back");
                broker.set_listener_options(listener, Rc::new(options.clone()));
                assert!(!is_short(&broker));
                broker.retire_listener(listener);
                assert!(is_short(&broker), "the listener has gone");
            }
        }
    }

    #[test]
    fn the_source_of_user_names_outlasts_a_listener() {
        let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
        let mut options = ListenerOptions::within(&Limits::default());
        options.user_name = UserNameSource::CommonName;
        options.mount_point = Some("house/".into());
        broker.set_listener_options(ListenerId(1), Rc::new(options));
        broker.retire_listener(ListenerId(1));
        assert_eq!(broker.options.listeners.of(ListenerId(1)).user_name, UserNameSource::CommonName);
    }
}
