//! The Reason Codes of MQTT 5.0 and their equivalents in the older versions.

use std::fmt;

/// Defines the enum and its conversions from one table, so that a code cannot be missing from one of them.
macro_rules! reason_codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        /// A Reason Code of MQTT 5.0. Codes from 0x80 up are errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = concat!(stringify!($value), ": ", $text, ".")] $name = $value,)*
        }

        impl ReasonCode {
            /// The Reason Code with this number, if the standard defines one.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "success";
    GrantedQoS1 = 0x01, "granted QoS 1";
    GrantedQoS2 = 0x02, "granted QoS 2";
    DisconnectWithWillMessage = 0x04, "disconnect with will message";
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    NoSubscriptionExisted = 0x11, "no subscription existed";
    ContinueAuthentication = 0x18, "continue authentication";
    ReAuthenticate = 0x19, "re-authenticate";
    UnspecifiedError = 0x80, "unspecified error";
    MalformedPacket = 0x81, "malformed packet";
    ProtocolError = 0x82, "protocol error";
    ImplementationSpecificError = 0x83, "implementation specific error";
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    BadUserNameOrPassword = 0x86, "bad user name or password";
    NotAuthorized = 0x87, "not authorized";
    ServerUnavailable = 0x88, "server unavailable";
    ServerBusy = 0x89, "server busy";
    Banned = 0x8A, "banned";
    ServerShuttingDown = 0x8B, "server shutting down";
    BadAuthenticationMethod = 0x8C, "bad authentication method";
    KeepAliveTimeout = 0x8D, "keep alive timeout";
    SessionTakenOver = 0x8E, "session taken over";
    TopicFilterInvalid = 0x8F, "topic filter invalid";
    TopicNameInvalid = 0x90, "topic name invalid";
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    TopicAliasInvalid = 0x94, "topic alias invalid";
    PacketTooLarge = 0x95, "packet too large";
    MessageRateTooHigh = 0x96, "message rate too high";
    QuotaExceeded = 0x97, "quota exceeded";
    AdministrativeAction = 0x98, "administrative action";
    PayloadFormatInvalid = 0x99, "payload format invalid";
    RetainNotSupported = 0x9A, "retain not supported";
    QoSNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "use another server";
    ServerMoved = 0x9D, "server moved";
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    MaximumConnectTime = 0xA0, "maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// The number on the wire.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the code stands for an error.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The return code, 0 to 5, for this code in a CONNACK of MQTT 3.1 and 3.1.1. `None` if those versions have no
    /// equivalent: the same CONNECT would be refused at any time, so the return code cannot be "server unavailable",
    /// after which a client tries again.
    pub const fn return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => Some(4),
            // PacketTooLarge is for a Will with a large payload. mosquitto uses the same return code.
            Self::NotAuthorized | Self::Banned | Self::PacketTooLarge => Some(5),
            Self::QoSNotSupported
            | Self::RetainNotSupported
            | Self::TopicNameInvalid
            | Self::TopicFilterInvalid
            | Self::PayloadFormatInvalid
            | Self::MalformedPacket
            | Self::ProtocolError => None,
            _ => Some(3),
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways() {
        let known = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
        assert_eq!(known.clone().count(), 43);
        for code in known {
            assert_eq!(ReasonCode::from_u8(code.value()), Some(code));
            assert_eq!(code.is_error(), code >= ReasonCode::UnspecifiedError);
        }
        assert_eq!(ReasonCode::from_u8(0x94), Some(ReasonCode::TopicAliasInvalid));
        assert_eq!(ReasonCode::from_u8(0x03), None);
        assert_eq!(ReasonCode::from_u8(0xA3), None);
    }

    #[test]
    fn reason_codes_have_old_return_codes() {
        for (code, expected) in [
            (ReasonCode::Success, 0),
            (ReasonCode::UnsupportedProtocolVersion, 1),
            (ReasonCode::ClientIdentifierNotValid, 2),
            (ReasonCode::ServerUnavailable, 3),
            (ReasonCode::ServerBusy, 3),
            (ReasonCode::QuotaExceeded, 3),
            (ReasonCode::ConnectionRateExceeded, 3),
            (ReasonCode::BadUserNameOrPassword, 4),
            (ReasonCode::NotAuthorized, 5),
            (ReasonCode::PacketTooLarge, 5),
            (ReasonCode::UnspecifiedError, 3),
        ] {
            assert_eq!(code.return_code(), Some(expected), "{code}");
        }
        for code in
            [ReasonCode::QoSNotSupported, ReasonCode::RetainNotSupported, ReasonCode::TopicNameInvalid]
        {
            assert_eq!(code.return_code(), None, "{code}");
        }
    }
}
