//! INFO: how a server describes itself and its cluster.

use super::Malformed;
use crate::base::json::{self, Value};

/// The longest description that is read, in bytes.
const LENGTH_MAXIMUM: usize = 64 * 1024;
/// The most other servers that are remembered of a description.
const SERVERS_MAXIMUM: usize = 64;
/// The longest text of a description that is kept, in bytes: no name of a host is longer.
const TEXT_MAXIMUM: usize = 300;
/// What a server accepts unless it says otherwise, in bytes.
const DEFAULT_MESSAGE_MAXIMUM: usize = 1024 * 1024;

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its name, or its identifier if it has none.
    pub name: Box<str>,
    /// The version of its program.
    pub version: Box<str>,
    /// The largest message that it accepts, in bytes of headers and payload.
    pub message_maximum: usize,
    /// Whether it passes on headers.
    pub has_headers: bool,
    /// Whether it has JetStream.
    pub has_jetstream: bool,
    /// Whether connections are encrypted, as far as the server is concerned.
    pub tls: TlsOffer,
    /// Whether a client has to authenticate itself.
    pub requires_authentication: bool,
    /// What a client has to sign that has a key.
    pub nonce: Option<Box<str>>,
    /// The addresses of the servers of its cluster, as host and port.
    pub others: Vec<Box<str>>,
    /// Whether it will close all connections soon.
    pub is_lame_duck: bool,
}

/// Whether a server encrypts a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsOffer {
    /// It cannot.
    #[default]
    None,
    /// It does if the client wants it.
    Available,
    /// It always does.
    Required,
}

impl ServerInfo {
    /// Parses the text of INFO.
    ///
    /// # Errors
    ///
    /// It is not an object of JSON. Fields that are missing have their defaults.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let value = json::parse(text, LENGTH_MAXIMUM).map_err(|_| Malformed("an INFO that is not JSON"))?;
        if !value.is_object() {
            return Err(Malformed("an INFO that is not an object"));
        }
        let is_set = |name: &str| value[name] == Value::Bool(true);
        let text = |name: &str| value[name].as_str().filter(|text| text.len() <= TEXT_MAXIMUM);
        let size = value["max_payload"].as_u64().and_then(|size| usize::try_from(size).ok());
        let tls = match (is_set("tls_required"), is_set("tls_available")) {
            (true, _) => TlsOffer::Required,
            (false, true) => TlsOffer::Available,
            (false, false) => TlsOffer::None,
        };
        Ok(Self {
            name: text("server_name").or(text("server_id")).unwrap_or_default().into(),
            version: text("version").unwrap_or_default().into(),
            message_maximum: size.unwrap_or(DEFAULT_MESSAGE_MAXIMUM),
            has_headers: is_set("headers"),
            has_jetstream: is_set("jetstream"),
            tls,
            requires_authentication: is_set("auth_required"),
            nonce: text("nonce").map(Into::into),
            others: others(&value["connect_urls"]),
            is_lame_duck: is_set("ldm"),
        })
    }

    /// Whether its program has at least this version. A part that is not a number counts as 0.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0_u32));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }
}

fn others(urls: &Value) -> Vec<Box<str>> {
    let urls = urls.as_array().map_or(&[][..], Vec::as_slice);
    let texts = urls.iter().filter_map(Value::as_str).filter(|url| url.len() <= TEXT_MAXIMUM);
    texts.take(SERVERS_MAXIMUM).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_described() {
        let text =
            br#"{"server_id":"N","server_name":"one","version":"2.14.0","headers":true,"max_payload":99,
            "jetstream":true,"tls_available":true,"auth_required":true,"nonce":"abc","ldm":true,
            "connect_urls":["10.0.0.1:4222","[::1]:4222",7]}"#;
        let info = ServerInfo::parse(text).unwrap();
        assert_eq!((&*info.name, &*info.version, info.message_maximum), ("one", "2.14.0", 99));
        assert!(info.has_headers && info.has_jetstream && info.requires_authentication && info.is_lame_duck);
        assert_eq!((info.tls, info.nonce.as_deref()), (TlsOffer::Available, Some("abc")));
        assert_eq!(info.others, ["10.0.0.1:4222".into(), "[::1]:4222".into()]);
    }

    #[test]
    fn what_is_missing_or_odd_has_its_default() {
        let info = ServerInfo::parse(br#"{"server_id":"N","version":5,"max_payload":-1,"connect_urls":"x"}"#)
            .unwrap();
        let expected = ServerInfo {
            name: "N".into(),
            message_maximum: DEFAULT_MESSAGE_MAXIMUM,
            ..ServerInfo::default()
        };
        assert_eq!(info, expected);
        for text in [&b""[..], b"[]", b"7", b"{", b"{\"a\":\"\xff\"}"] {
            assert!(ServerInfo::parse(text).is_err());
        }
        let many = format!("{{\"connect_urls\":[{}\"z\"]}}", "\"a\",".repeat(1_000));
        assert_eq!(ServerInfo::parse(many.as_bytes()).unwrap().others.len(), SERVERS_MAXIMUM);
    }

    #[test]
    fn versions_are_compared_by_their_parts() {
        let is_at_least = |version: &str| {
            ServerInfo { version: version.into(), ..ServerInfo::default() }.is_at_least(2, 14)
        };
        assert_eq!(["2.14.0", "2.14.0-RC.1", "3.0", "2.100.1"].map(is_at_least), [true; 4]);
        assert_eq!(["2.9.25", "2", "", "x.y", "1.99"].map(is_at_least), [false; 5]);
    }
}
