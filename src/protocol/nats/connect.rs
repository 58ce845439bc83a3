//! CONNECT: how a client introduces itself.

use super::outgoing::LINE_MAXIMUM;
use super::{Authentication, Invalid, Secret, ServerInfo};
use crate::base::json::{Value, object};

/// Appends CONNECT for a server that has described itself: without an answer to each line, without messages of its own,
/// with headers and with a status where a request has no receiver. `is_encrypted` says whether the connection is. The
/// name is shown by the tools of the server.
///
/// # Errors
///
/// The server has sent no nonce to sign, or the control line is too long, which it is with a JWT of several KiB.
pub fn write_connect(
    name: &str,
    authentication: &Authentication,
    server: &ServerInfo,
    is_encrypted: bool,
    into: &mut Vec<u8>,
) -> Result<(), Invalid> {
    let secret = |secret: &Secret| Value::from(secret.expose());
    let signature = |key: &super::UserKey| {
        let nonce = server.nonce.as_deref().ok_or(Invalid("an answer to a server that has sent no nonce"))?;
        Ok(Value::from(key.sign(nonce)))
    };
    let (mut user, mut password, mut token) = (Value::Null, Value::Null, Value::Null);
    let (mut nkey, mut jwt, mut signed) = (Value::Null, Value::Null, Value::Null);
    match authentication {
        Authentication::None => {}
        Authentication::Password { user: name, password: text } => {
            (user, password) = (Value::from(&**name), secret(text));
        }
        Authentication::Token(text) => token = secret(text),
        Authentication::Key(key) => (nkey, signed) = (key.public().into(), signature(key)?),
        Authentication::Credentials { jwt: text, key } => (jwt, signed) = (secret(text), signature(key)?),
    }
    let connect = object([
        ("auth_token", token),
        ("echo", false.into()),
        ("headers", true.into()),
        ("jwt", jwt),
        ("lang", "rust".into()),
        ("name", name.into()),
        ("nkey", nkey),
        ("no_responders", true.into()),
        ("pass", password),
        ("pedantic", false.into()),
        ("protocol", 1.into()),
        ("sig", signed),
        ("tls_required", is_encrypted.into()),
        ("user", user),
        ("verbose", false.into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ]);
    let line = format!("CONNECT {connect}");
    if line.len() > LINE_MAXIMUM {
        return Err(Invalid("credentials that make CONNECT longer than 4096 bytes"));
    }
    into.extend_from_slice(line.as_bytes());
    into.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json;
    use crate::protocol::nats::UserKey;
    use crate::protocol::nats::key::seed_for_tests;

    fn connect(authentication: &Authentication, nonce: Option<&str>) -> Result<Value, Invalid> {
        let server = ServerInfo { nonce: nonce.map(Into::into), ..ServerInfo::default() };
        let mut bytes = b"PING\r\n".to_vec();
        let written = write_connect("node \"1\"", authentication, &server, true, &mut bytes);
        if written.is_err() {
            assert_eq!(bytes, b"PING\r\n", "nothing was written");
        }
        written.map(|()| {
            let text = bytes.strip_prefix(b"PING\r\nCONNECT ").unwrap().strip_suffix(b"\r\n").unwrap();
            json::parse(text, 4096).unwrap()
        })
    }

    #[test]
    fn the_client_wants_headers_and_no_answers() {
        let value = connect(&Authentication::None, None).unwrap();
        for name in ["verbose", "pedantic", "echo"] {
            assert_eq!(value[name], false, "{name}");
        }
        for name in ["headers", "no_responders", "tls_required"] {
            assert_eq!(value[name], true, "{name}");
        }
        assert_eq!((&value["name"], &value["protocol"]), (&"node \"1\"".into(), &1.into()));
        assert!(
            ["user", "pass", "auth_token", "nkey", "jwt", "sig"].iter().all(|name| value[*name].is_null())
        );
    }

    #[test]
    fn each_way_to_authenticate_has_its_fields() {
        let password = Authentication::Password { user: "ann".into(), password: Secret::new("p\"\n") };
        let value = connect(&password, None).unwrap();
        assert_eq!((&value["user"], &value["pass"]), (&"ann".into(), &"p\"\n".into()));
        let value = connect(&Authentication::Token(Secret::new("t")), None).unwrap();
        assert_eq!(value["auth_token"], "t");
        let key = || UserKey::from_seed(&seed_for_tests()).unwrap();
        let value = connect(&Authentication::Key(key()), Some("n")).unwrap();
        assert_eq!((&value["nkey"], &value["sig"]), (&key().public().into(), &key().sign("n").into()));
        assert!(connect(&Authentication::Key(key()), None).is_err());
        let credentials = |jwt: &str| Authentication::Credentials { jwt: Secret::new(jwt), key: key() };
        let value = connect(&credentials("a.b.c"), Some("n")).unwrap();
        assert_eq!((&value["jwt"], &value["nkey"]), (&"a.b.c".into(), &Value::Null));
        assert!(connect(&credentials(&"x".repeat(4096)), Some("n")).is_err());
    }
}
