//! The messages of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
//!
//! Only user names of printable ASCII are accepted, which SASLprep does not change; others are refused.

use base64ct::{Base64, Encoding};

/// The name of the mechanism, as in an Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// The maximum length in bytes of a message from a client: the longest user name, escaped, and a nonce.
const MESSAGE_MAXIMUM: usize = 4_096;

/// A key or a signature.
pub type Key = [u8; 32];

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// The GS2 header with the flag for channel binding, which precedes the bare message. The last message repeats it.
    pub binding: &'a str,
    /// The bare message, which is part of the input for the proofs.
    pub bare: &'a str,
    /// The claimed user name, unescaped.
    pub user: String,
    /// The client's part of the nonce.
    pub nonce: &'a str,
}

/// The last message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// The repeated GS2 header.
    pub binding: Vec<u8>,
    /// Both parts of the nonce.
    pub nonce: &'a str,
    /// The message without the proof, which is part of the input for the proofs.
    pub without_proof: &'a str,
    /// The proof that the client knows the password.
    pub proof: Key,
}

/// Decodes the text of a message.
///
/// # Errors
///
/// It is too long or not UTF-8.
pub fn text(message: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= MESSAGE_MAXIMUM);
    text.ok_or("a message that is too long or not UTF-8")
}

impl<'a> ClientFirst<'a> {
    /// Parses the first message of a client.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the message.
    pub fn parse(message: &'a str) -> Result<Self, &'static str> {
        let cut = "a malformed first message";
        let (flag, rest) = message.split_once(',').ok_or(cut)?;
        if flag != "n" && flag != "y" {
            return Err("channel binding, which is not supported");
        }
        let (identity, bare) = rest.split_once(',').ok_or(cut)?;
        let binding = message.strip_suffix(bare).ok_or(cut)?;
        let mut parts = bare.split(',');
        let user = parts.next().and_then(|part| part.strip_prefix("n=")).ok_or(cut)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(cut)?;
        if nonce.is_empty() || !is_prepared(nonce.as_bytes()) {
            return Err("a malformed nonce");
        }
        if !identity.is_empty() && identity.strip_prefix("a=") != Some(user) {
            return Err("an authorization identity other than the user name");
        }
        Ok(Self { binding, bare, user: plain_name(user)?, nonce })
    }
}

impl<'a> ClientFinal<'a> {
    /// Parses the last message of a client.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the message.
    pub fn parse(message: &'a str) -> Result<Self, &'static str> {
        let cut = "a malformed last message";
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(cut)?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(cut)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(cut)?;
        let binding = Base64::decode_vec(binding).map_err(|_| cut)?;
        let proof = Base64::decode_vec(proof).ok().and_then(|proof| Key::try_from(proof).ok()).ok_or(cut)?;
        Ok(Self { binding, nonce, without_proof, proof })
    }
}

/// The first message of a server: both parts of the nonce, the salt and the rounds.
pub fn server_first(nonce: &str, salt: &[u8], rounds: u32) -> String {
    format!("r={nonce},s={},i={rounds}", Base64::encode_string(salt))
}

/// The last message of a server: its signature, which proves that it knows the verifier of the password.
pub fn server_final(signature: &Key) -> String {
    format!("v={}", Base64::encode_string(signature))
}

/// Whether a text has only printable ASCII characters, so SASLprep does not change it.
pub fn is_prepared(text: &[u8]) -> bool {
    text.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// Unescapes a user name.
fn plain_name(escaped: &str) -> Result<String, &'static str> {
    if escaped.is_empty() || !is_prepared(escaped.as_bytes()) {
        return Err("a user name that is empty or has characters other than printable ASCII");
    }
    let mut name = String::new();
    let mut parts = escaped.split('=');
    name.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err("a user name with a malformed escape"),
        };
        name.push(character);
        name.push_str(rest);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_message_has_a_user_name_and_a_nonce() {
        let first = ClientFirst::parse("n,,n=a=2Cb=3Dc,r=xyz,more").unwrap();
        assert_eq!((first.binding, first.bare), ("n,,", "n=a=2Cb=3Dc,r=xyz,more"));
        assert_eq!((&*first.user, first.nonce), ("a,b=c", "xyz"));
        let named = ClientFirst::parse("y,a=u,n=u,r=x").unwrap();
        assert_eq!((named.binding, &*named.user), ("y,a=u,", "u"));
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,r=x",
            "n,,n=u,r=",
            "n,,n=,r=x",
            "n,,n=\u{e9},r=x",
            "n,,n=u,r=\u{e9}",
            "p=tls-unique,,n=u,r=x",
            "n,a=v,n=u,r=x",
            "n,,m=x,n=u,r=x",
            "n,,n=a=,r=x",
            "n,,n=a=3,r=x",
            "n,,n=a=2X,r=x",
        ] {
            assert!(ClientFirst::parse(message).is_err(), "{message}");
        }
    }

    #[test]
    fn the_last_message_has_a_proof() {
        let proof = server_final(&[7; 32]).replace("v=", "p=");
        let message = format!("c=biws,r=xyz,more,{proof}");
        let last = ClientFinal::parse(&message).unwrap();
        assert_eq!((&*last.binding, last.nonce, last.proof), (&b"n,,"[..], "xyz", [7; 32]));
        assert_eq!(last.without_proof, "c=biws,r=xyz,more");
        for (from, to) in
            [("c=b", "d=b"), ("c=biws", "c=!"), ("r=", "s="), ("p=", "q="), ("p=B", "p="), (",", ";")]
        {
            assert!(ClientFinal::parse(&message.replace(from, to)).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn a_message_is_a_text_of_limited_length() {
        assert_eq!(text(&[b'a'; MESSAGE_MAXIMUM]).map(str::len), Ok(MESSAGE_MAXIMUM));
        assert!(text(&[b'a'; MESSAGE_MAXIMUM + 1]).is_err() && text(&[0xFF]).is_err());
    }

    proptest! {
        #[test]
        fn random_text_never_panics(message in "[nypacr=,iws0-9AZ]{0,40}") {
            if let Ok(first) = ClientFirst::parse(&message) {
                prop_assert_eq!([first.binding, first.bare].concat(), &*message);
            }
            if let Ok(last) = ClientFinal::parse(&message) {
                prop_assert!(message.starts_with(last.without_proof));
            }
        }
    }
}
