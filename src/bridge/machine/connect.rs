//! The packets that a bridge writes on its own behalf: how it introduces itself, and how it reports its state.

use super::attempts::Variant;
use crate::protocol::codec::{
    Connect, Delivery, Packet, Properties, Property, PropertyBuffer, ProtocolVersion, Publish, Will,
};
use crate::protocol::topic::TopicName;
use crate::settings::Bridge;

/// The version that a bridge speaks with this broker.
pub const LOCAL_VERSION: ProtocolVersion = ProtocolVersion::V5;

/// The payloads of the state topic.
pub const CONNECTED: &str = "1";
pub const DISCONNECTED: &str = "0";

/// The topic where the state is published in this broker.
pub fn local_state_topic(settings: &Bridge) -> Option<TopicName<'_>> {
    settings.notifications.as_ref().map(|notifications| TopicName::trusted(&notifications.topic))
}

/// The topic where the state is published in the other broker.
pub fn remote_state_topic(settings: &Bridge) -> Option<TopicName<'_>> {
    let notifications = settings.notifications.as_ref().filter(|notifications| !notifications.is_local_only);
    notifications.map(|notifications| TopicName::trusted(&notifications.topic))
}

/// A message that reports the state of the bridge.
pub fn state<'a>(topic: TopicName<'a>, payload: &'a str, delivery: Delivery, retain: bool) -> Publish<'a> {
    let properties = Properties::default();
    let payload = payload.as_bytes();
    Publish { dup: false, retain, delivery, topic: Some(topic), properties, payload }
}

/// Appends the CONNECT for the other broker. `packet_size` is the largest packet in bytes that the bridge accepts.
pub fn write_remote(settings: &Bridge, variant: Variant, packet_size: usize, into: &mut Vec<u8>) {
    let remote = &settings.remote;
    let is_5 = variant.version == ProtocolVersion::V5;
    let properties = if is_5 { remote_properties(settings, packet_size) } else { PropertyBuffer::default() };
    let will = remote_state_topic(settings).map(|topic| Will {
        qos: variant.will.qos,
        retain: variant.will.retain,
        properties: Properties::default(),
        topic,
        payload: DISCONNECTED.as_bytes(),
    });
    let user_name = remote.user_name.as_deref();
    // Before MQTT 5.0, a password requires a user name.
    let password = remote.password.as_deref().filter(|_| is_5 || user_name.is_some());
    let connect = Connect {
        version: variant.version,
        is_bridge: variant.is_private,
        clean_start: remote.is_clean,
        keep_alive: remote.keep_alive,
        properties: properties.properties(),
        client_identifier: &remote.client_identifier,
        will,
        user_name,
        password: password.map(str::as_bytes),
    };
    Packet::Connect(connect).encode(variant.version, into);
}

fn remote_properties(settings: &Bridge, packet_size: usize) -> PropertyBuffer {
    let remote = &settings.remote;
    let mut properties = PropertyBuffer::default();
    if !remote.is_clean && remote.session_expiry > 0 {
        properties.push(Property::SessionExpiryInterval(remote.session_expiry));
    }
    if remote.receive_maximum > 0 {
        properties.push(Property::ReceiveMaximum(remote.receive_maximum));
    }
    if let Ok(size) = u32::try_from(packet_size) {
        properties.push(Property::MaximumPacketSize(size));
    }
    if remote.topic_alias_maximum > 0 {
        properties.push(Property::TopicAliasMaximum(remote.topic_alias_maximum));
    }
    properties
}

/// Appends the CONNECT for this broker. The session never expires unless it is clean.
pub fn write_local(settings: &Bridge, receive_maximum: Option<u16>, into: &mut Vec<u8>) {
    let local = &settings.local;
    let mut properties = PropertyBuffer::default();
    if !local.is_clean {
        properties.push(Property::SessionExpiryInterval(u32::MAX));
    }
    if let Some(maximum) = receive_maximum {
        properties.push(Property::ReceiveMaximum(maximum));
    }
    let connect = Connect {
        version: LOCAL_VERSION,
        is_bridge: false,
        clean_start: local.is_clean,
        keep_alive: 0,
        properties: properties.properties(),
        client_identifier: &local.client_identifier,
        will: None,
        user_name: local.user_name.as_deref(),
        password: local.password.as_deref().map(str::as_bytes),
    };
    Packet::Connect(connect).encode(LOCAL_VERSION, into);
}
