//! Which address is tried next, and with which version of the protocol.

use crate::protocol::codec::{ProtocolVersion, QoS, ReasonCode};
use crate::settings::{Bridge, Remote};

/// How the bridge introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub version: ProtocolVersion,
    /// Whether it says that it is a bridge, which only some brokers of MQTT 3.1 and 3.1.1 understand.
    pub is_private: bool,
    /// How the Will is published.
    pub will: WillOptions,
}

/// How a Will is published. A broker of MQTT 5.0 refuses a CONNECT whose Will has more than it supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillOptions {
    pub qos: QoS,
    pub retain: bool,
}

impl WillOptions {
    const ALL: Self = Self { qos: QoS::AtLeastOnce, retain: true };
}

impl Variant {
    /// Whether the other broker may send back what it was sent: it was told neither that this is a bridge nor No Local.
    pub fn may_echo(self) -> bool {
        self.version != ProtocolVersion::V5 && !self.is_private
    }

    /// Its name for messages.
    pub const fn name(self) -> &'static str {
        match (self.version, self.is_private) {
            (ProtocolVersion::V5, _) => "MQTT 5.0",
            (ProtocolVersion::V311, true) => "MQTT 3.1.1 as a bridge",
            (ProtocolVersion::V311, false) => "MQTT 3.1.1",
            (ProtocolVersion::V31, true) => "MQTT 3.1 as a bridge",
            (ProtocolVersion::V31, false) => "MQTT 3.1",
        }
    }
}

/// The variants that are tried, from the configured one down.
fn variants(remote: &Remote) -> Vec<Variant> {
    let versions: &[ProtocolVersion] = match remote.version {
        ProtocolVersion::V5 => &[ProtocolVersion::V5, ProtocolVersion::V311],
        ProtocolVersion::V311 => &[ProtocolVersion::V311],
        ProtocolVersion::V31 => &[ProtocolVersion::V31],
    };
    let mut variants = Vec::new();
    for &version in versions {
        if remote.tries_private && version != ProtocolVersion::V5 {
            variants.push(Variant { version, is_private: true, will: WillOptions::ALL });
        }
        variants.push(Variant { version, is_private: false, will: WillOptions::ALL });
    }
    variants
}

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The index of the variant to try first.
    variant: usize,
    /// Whether that one was accepted before.
    is_accepted: bool,
    will: WillOptions,
}

/// The attempts of a bridge to connect.
#[derive(Clone, Debug)]
pub struct Attempts {
    variants: Vec<Variant>,
    known: Vec<Known>,
    is_round_robin: bool,
    /// The index of the current address.
    address: usize,
    /// How many variants were tried in vain at the current address since it was chosen.
    tried: usize,
    /// How many of the last of them ended without an answer. A connection that is closed may mean anything, so they are
    /// passed over for this time only.
    passed_over: usize,
}

impl Attempts {
    pub fn new(settings: &Bridge) -> Self {
        Self {
            variants: variants(&settings.remote),
            known: vec![
                Known { variant: 0, is_accepted: false, will: WillOptions::ALL };
                settings.addresses.len()
            ],
            is_round_robin: settings.is_round_robin,
            address: 0,
            tried: 0,
            passed_over: 0,
        }
    }

    /// The index of the address to dial.
    pub const fn address(&self) -> usize {
        self.address
    }

    /// How to introduce the bridge there.
    pub fn variant(&self) -> Variant {
        let known = self.known[self.address];
        Variant {
            will: known.will,
            ..self.variants[(known.variant + self.passed_over) % self.variants.len()]
        }
    }

    /// Whether the variant was accepted at this address before.
    pub fn was_accepted(&self) -> bool {
        self.known[self.address].is_accepted
    }

    /// The other broker does not support the QoS or the RETAIN of the Will. Returns whether another Will is to be tried
    /// at once.
    pub fn will_refused(&mut self, code: ReasonCode) -> bool {
        let will = &mut self.known[self.address].will;
        let before = *will;
        match code {
            ReasonCode::QoSNotSupported => will.qos = QoS::AtMostOnce,
            ReasonCode::RetainNotSupported => will.retain = false,
            _ => {}
        }
        *will != before
    }

    /// The other broker has closed the connection in place of an answer. Returns whether another variant is to be tried
    /// at once. A variant that was accepted before is not doubted for that.
    pub fn closed(&mut self) -> bool {
        if self.known[self.address].is_accepted {
            return false;
        }
        self.passed_over += 1;
        self.tried += 1;
        self.tried < self.variants.len()
    }

    /// The other broker does not know the variant. Returns whether another one is to be tried at once. After the last,
    /// the first one is tried again, but not at once.
    pub fn refused(&mut self) -> bool {
        let known = &mut self.known[self.address];
        known.is_accepted = false;
        known.variant = (known.variant + self.passed_over + 1) % self.variants.len();
        self.passed_over = 0;
        self.tried += 1;
        self.tried < self.variants.len()
    }

    /// The other broker has accepted the variant.
    pub fn accepted(&mut self) {
        self.known[self.address].is_accepted = self.passed_over == 0;
        self.tried = 0;
    }

    /// The address could not be reached or has refused the bridge: the next one is tried.
    pub fn failed(&mut self) {
        self.begin();
        self.address = (self.address + 1) % self.known.len();
    }

    /// A good connection has ended. The same address is tried again if the addresses take turns, otherwise the first
    /// one.
    pub const fn ended(&mut self) {
        self.begin();
        if !self.is_round_robin {
            self.address = 0;
        }
    }

    /// The first address answers again.
    pub const fn prefer_first(&mut self) {
        self.begin();
        self.address = 0;
    }

    const fn begin(&mut self) {
        self.tried = 0;
        self.passed_over = 0;
    }

    /// Whether the first address is to be tried while the bridge is connected.
    pub const fn is_second_choice(&self) -> bool {
        !self.is_round_robin && self.address != 0
    }
}
