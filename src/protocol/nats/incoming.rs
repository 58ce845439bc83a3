//! What the server sends: control lines, some with a payload after them.

use super::Malformed;
use crate::protocol::codec::Status;

/// The longest control line of the server in bytes, without its end: one with a subject and a reply of 65,535 bytes each,
/// which are the longest that a stream keeps, or the description of a server that names many others.
pub const LINE_MAXIMUM: usize = 2 * 65_535 + 256;

/// What the server has sent, with views into the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// INFO: the description of the server in JSON.
    Info(&'a [u8]),
    /// MSG or HMSG: a message.
    Message(Message<'a>),
    /// The beginning of a message that is too large. The next `following` bytes belong to it and are to be skipped.
    TooLarge {
        /// The number of the subscription.
        subscription: u64,
        /// How many bytes follow what was parsed.
        following: u64,
    },
    /// PING, which is to be answered.
    Ping,
    /// PONG, the answer to a PING.
    Pong,
    /// +OK, which is only sent if it was asked for.
    Ok,
    /// -ERR: what is wrong, without its quotes.
    Error(&'a [u8]),
}

/// A message for a subscription. Neither its subject nor its headers are checked: the server passes on what another client
/// has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The number of the subscription.
    pub subscription: u64,
    /// The subject that it was published to.
    pub subject: &'a [u8],
    /// Where an answer is expected.
    pub reply: Option<&'a [u8]>,
    /// The header block, for [`super::Headers::parse`].
    pub headers: Option<&'a [u8]>,
    /// The rest.
    pub payload: &'a [u8],
}

/// A complete element of the protocol, and the number of bytes that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// What it is.
    pub incoming: Incoming<'a>,
    /// Its length in bytes.
    pub length: usize,
}

/// Parses the first element of `input`. A message whose headers and payload are longer than `message_maximum` bytes
/// together is [`Incoming::TooLarge`].
///
/// # Errors
///
/// The server has broken the protocol, so the connection cannot go on.
#[inline]
pub fn decode(input: &[u8], message_maximum: usize) -> Result<Status<Decoded<'_>>, Malformed> {
    let Some(end) = line_end(input)? else {
        return Ok(Status::Incomplete { needed: input.len() + 1 });
    };
    let (line, _) = input.split_at(end);
    let begin = end + LINE_END.len();
    let (name, rest) = split_word(line);
    match name {
        b"MSG" => return message(input, begin, PlainLine::parse(rest)?.sizes(), message_maximum),
        b"HMSG" => return message(input, begin, line_with_headers(rest)?, message_maximum),
        _ => {}
    }
    let incoming = match name {
        b"PING" => Incoming::Ping,
        b"PONG" => Incoming::Pong,
        b"+OK" => Incoming::Ok,
        b"INFO" => Incoming::Info(rest),
        b"-ERR" => Incoming::Error(unquoted(rest)),
        _ => return Err(Malformed("an unknown control line")),
    };
    Ok(Status::Complete(Decoded { incoming, length: begin }))
}

const LINE_END: &[u8] = b"\r\n";

/// The position of the end of the first line; `None` if it has not arrived.
fn line_end(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let (searched, _) = input.split_at(input.len().min(LINE_MAXIMUM + LINE_END.len()));
    let Some(feed) = searched.iter().position(|&byte| byte == b'\n') else {
        return match searched.len() < LINE_MAXIMUM + LINE_END.len() {
            true => Ok(None),
            false => Err(Malformed("a control line that is too long")),
        };
    };
    match feed.checked_sub(1) {
        Some(end) if searched.get(end) == Some(&b'\r') => Ok(Some(end)),
        _ => Err(Malformed("a control line with a malformed end")),
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first word of a line, and what follows it without spaces at both ends.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|&byte| is_space(byte)).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_ascii())
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")).unwrap_or(text)
}

/// What a control line says about the message that follows it.
#[derive(Clone, Copy)]
struct Described<'a> {
    subscription: u64,
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    /// The length of the headers, if there are any.
    headers: Option<u64>,
    /// The length of headers and payload together.
    total: u64,
}

/// The words of a control line that are the same in MSG and HMSG.
struct PlainLine<'a> {
    subject: &'a [u8],
    subscription: u64,
    reply: Option<&'a [u8]>,
    size: u64,
}

const WRONG_WORDS: Malformed = Malformed("a message with a malformed control line");

impl<'a> PlainLine<'a> {
    /// Parses subject, number of the subscription, reply if there is one, size.
    fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let mut words = line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty());
        let (Some(subject), Some(subscription), Some(third)) = (words.next(), words.next(), words.next())
        else {
            return Err(WRONG_WORDS);
        };
        let (reply, size) = words.next().map_or((None, third), |fourth| (Some(third), fourth));
        if words.next().is_some() {
            return Err(WRONG_WORDS);
        }
        let subscription = super::number(subscription).ok_or(WRONG_WORDS)?;
        let size = size_of(size)?;
        Ok(Self { subject, subscription, reply, size })
    }

    fn sizes(self) -> Described<'a> {
        let Self { subject, subscription, reply, size } = self;
        Described { subscription, subject, reply, headers: None, total: size }
    }
}

/// Parses the control line of HMSG, which ends with the size of the headers and that of headers and payload together.
fn line_with_headers(line: &[u8]) -> Result<Described<'_>, Malformed> {
    let space = line.iter().rposition(|&byte| is_space(byte)).ok_or(WRONG_WORDS)?;
    let (before, total) = line.split_at(space);
    let PlainLine { subject, subscription, reply, size: headers } = PlainLine::parse(before)?;
    let total = size_of(total.trim_ascii())?;
    if headers > total {
        return Err(Malformed("a message whose headers are longer than all of it"));
    }
    Ok(Described { subscription, subject, reply, headers: Some(headers), total })
}

/// The size of a message. No server sends one of 4 GiB.
fn size_of(word: &[u8]) -> Result<u64, Malformed> {
    super::number(word).filter(|&size| size <= u64::from(u32::MAX)).ok_or(WRONG_WORDS)
}

/// Parses what follows the control line of a message, which ends at `begin`.
fn message<'a>(
    input: &'a [u8],
    begin: usize,
    described: Described<'a>,
    maximum: usize,
) -> Result<Status<Decoded<'a>>, Malformed> {
    let Described { subscription, subject, reply, headers, total } = described;
    let Some(size) = usize::try_from(total).ok().filter(|&size| size <= maximum) else {
        let incoming = Incoming::TooLarge { subscription, following: total + LINE_END.len() as u64 };
        return Ok(Status::Complete(Decoded { incoming, length: begin }));
    };
    let length = begin + size + LINE_END.len();
    let Some(whole) = input.get(begin..length) else {
        return Ok(Status::Incomplete { needed: length });
    };
    let body = whole.strip_suffix(LINE_END).ok_or(Malformed("a message with a malformed end"))?;
    let header_length = headers.and_then(|length| usize::try_from(length).ok());
    let (headers, payload) = match header_length {
        Some(length) => {
            let (headers, payload) = body.split_at(length.min(body.len()));
            (Some(headers), payload)
        }
        None => (None, body),
    };
    let incoming = Incoming::Message(Message { subscription, subject, reply, headers, payload });
    Ok(Status::Complete(Decoded { incoming, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &[u8]) -> (Incoming<'_>, usize) {
        match decode(input, 1024) {
            Ok(Status::Complete(Decoded { incoming, length })) => (incoming, length),
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(input)),
        }
    }

    fn message(input: &[u8]) -> Message<'_> {
        match whole(input) {
            (Incoming::Message(message), length) if length == input.len() => message,
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(input)),
        }
    }

    #[test]
    fn lines_without_a_payload_are_parsed() {
        for (input, expected) in [
            (&b"PING\r\n"[..], Incoming::Ping),
            (b"PONG\r\n", Incoming::Pong),
            (b"PONG \r\n", Incoming::Pong),
            (b"+OK\r\n", Incoming::Ok),
            (b"-ERR 'Stale Connection'\r\n", Incoming::Error(b"Stale Connection")),
            (b"-ERR\tno quotes\r\n", Incoming::Error(b"no quotes")),
            (b"-ERR '\r\n", Incoming::Error(b"'")),
            (b"INFO {\"a\": 1} \r\n", Incoming::Info(b"{\"a\": 1}")),
        ] {
            assert_eq!(whole(&[input, b"PING"].concat()), (expected, input.len()));
        }
    }

    #[test]
    fn a_message_is_parsed_with_and_without_reply_and_headers() {
        let plain = message(b"MSG a.b 9 3\r\nx\r\n\r\n");
        let expected =
            Message { subscription: 9, subject: b"a.b", reply: None, headers: None, payload: b"x\r\n" };
        assert_eq!(plain, expected);
        let replied = message(b"MSG  a.b\t9  _INBOX.1   0\r\n\r\n");
        assert_eq!((replied.reply, replied.payload), (Some(&b"_INBOX.1"[..]), &b""[..]));
        let block = b"NATS/1.0\r\n\r\n";
        let headed = message(b"HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n");
        assert_eq!((headed.headers, headed.payload, headed.reply), (Some(&block[..]), &b"x"[..], None));
        let both = message(b"HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n");
        assert_eq!((both.headers, both.payload, both.reply), (Some(&block[..]), &b""[..], Some(&b"r"[..])));
        assert_eq!(message(b"MSG \xff 1 0\r\n\r\n").subject, b"\xff");
    }

    #[test]
    fn an_incomplete_element_reports_what_it_needs() {
        for (input, needed) in [
            (&b""[..], 1),
            (b"PIN", 4),
            (b"PING\r", 6),
            (b"MSG a 1 5\r\n", 18),
            (b"MSG a 1 5\r\nabcde\r", 18),
        ] {
            assert_eq!(decode(input, 5), Ok(Status::Incomplete { needed }));
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_an_error() {
        for input in [
            &b"\n"[..],
            b"PING\n",
            b"\r\n",
            b" PING\r\n",
            b"HELLO\r\n",
            b"MSG\r\n",
            b"MSG a\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 b c d\r\n",
            b"MSG a b 1\r\n",
            b"MSG a 1 -1\r\n",
            b"MSG a 1 +1\r\n",
            b"MSG a 1 4294967296\r\n",
            b"MSG a 18446744073709551616 1\r\n",
            b"MSG a 1 1\r\nabc",
            b"MSG a 1 1\r\nab\r\n",
            b"HMSG a 1 1\r\n",
            b"HMSG a 1 3 2\r\nabc\r\n",
            b"HMSG a 1 r s 1 2\r\n",
        ] {
            assert!(decode(input, 1024).is_err(), "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn sizes_are_limited() {
        let expected = Incoming::TooLarge { subscription: 7, following: 1027 };
        assert_eq!(whole(b"MSG a 7 1025\r\n"), (expected, 14));
        assert_eq!(whole(b"HMSG a 7 r 12 1025\r\nNATS"), (expected, 20));
        assert_eq!(decode(b"MSG a 7 1024\r\n", 1024), Ok(Status::Incomplete { needed: 14 + 1026 }));
        let line = [b"INFO ", &b"x".repeat(LINE_MAXIMUM - 5)[..], b"\r\n"].concat();
        assert_eq!(whole(&line).1, line.len());
        let without_end = [&line[..line.len() - 2], b"xx"].concat();
        assert_eq!(decode(&without_end, 1), Err(Malformed("a control line that is too long")));
        assert!(matches!(decode(&without_end[1..], 1), Ok(Status::Incomplete { .. })));
    }
}
