//! The headers of a message: a first line with the version of the format and an optional status, then one line for each
//! header.

use super::{Invalid, Malformed};

/// How every header block begins.
const VERSION: &[u8] = b"NATS/1.0";
const LINE_END: &[u8] = b"\r\n";

/// The longest header block that is read, in bytes. Any client of the server may write longer ones.
pub const HEADERS_MAXIMUM: usize = 16 * 1024;

/// A received header block. Names and values are looked up in it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    status: Option<StatusLine<'a>>,
    /// The lines of the headers, each with its end.
    lines: &'a [u8],
}

/// A status of the server, in place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine<'a> {
    /// 100 to 999, as in HTTP.
    pub code: u16,
    /// What the server says about it, which may be empty.
    pub description: &'a str,
}

impl StatusLine<'_> {
    /// A heartbeat of a consumer that has nothing to deliver, or a question about flow control.
    pub const IDLE_HEARTBEAT: u16 = 100;
    /// The end of a series of answers.
    pub const END_OF_BATCH: u16 = 204;
    /// The request is malformed.
    pub const BAD_REQUEST: u16 = 400;
    /// There is no message.
    pub const NO_MESSAGES: u16 = 404;
    /// The request has waited for too long.
    pub const REQUEST_TIMEOUT: u16 = 408;
    /// The consumer has changed or was deleted, or a limit was exceeded.
    pub const CONFLICT: u16 = 409;
    /// The sequence that is asked for was not reached within the time.
    pub const TOO_LARGE: u16 = 413;
    /// No subscription has received the request.
    pub const NO_RESPONDERS: u16 = 503;
}

impl<'a> Headers<'a> {
    /// Checks a header block.
    ///
    /// # Errors
    ///
    /// It is longer than [`HEADERS_MAXIMUM`] or malformed. The server does not check the blocks that it passes on, so
    /// this is a fault of the message and not of the connection.
    pub fn parse(block: &'a [u8]) -> Result<Self, Malformed> {
        if block.len() > HEADERS_MAXIMUM {
            return Err(Malformed("headers longer than 16 KiB"));
        }
        let (first, lines) = split_line(block).ok_or(Malformed("headers without a first line"))?;
        let rest = first.strip_prefix(VERSION).ok_or(Malformed("headers of an unknown version"))?;
        let status = status_line(rest)?;
        let lines = lines.strip_suffix(LINE_END).ok_or(Malformed("headers without an end"))?;
        let mut rest = lines;
        while let Some((line, following)) = split_line(rest) {
            header(line).ok_or(Malformed("a header without a name or a colon"))?;
            rest = following;
        }
        if !rest.is_empty() {
            return Err(Malformed("a header that is not a line"));
        }
        Ok(Self { status, lines })
    }

    /// The status in the first line.
    pub const fn status(&self) -> Option<StatusLine<'a>> {
        self.status
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            let (line, following) = split_line(rest)?;
            rest = following;
            header(line)
        })
    }

    /// The first value with this name. Names are case-sensitive, as in the server.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The last value with this name. The server adds its own after those of the message.
    pub fn last_value(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().filter(|(found, _)| *found == name.as_bytes()).last().map(|(_, value)| value)
    }

    /// The last value with this name, if it is a number.
    pub fn last_number(&self, name: &str) -> Option<u64> {
        self.last_value(name).and_then(super::number)
    }

    /// The first value with this name, if it is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name).and_then(super::number)
    }
}

/// Splits a block at the end of its first line.
fn split_line(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = block.windows(LINE_END.len()).position(|found| found == LINE_END)?;
    let (line, rest) = block.split_at(at);
    Some((line, rest.split_at(LINE_END.len()).1))
}

fn status_line(rest: &[u8]) -> Result<Option<StatusLine<'_>>, Malformed> {
    let malformed = Malformed("a malformed status in the headers");
    let text = std::str::from_utf8(rest).map_err(|_| malformed)?;
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(malformed);
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (code, description) = text.split_once(' ').unwrap_or((text, ""));
    let code = code.parse().ok().filter(|code| (100..1000).contains(code)).ok_or(malformed)?;
    Ok(Some(StatusLine { code, description: description.trim() }))
}

/// A header of one line. Spaces around the value do not belong to it.
fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':').filter(|&colon| colon > 0)?;
    let (name, value) = line.split_at(colon);
    Some((name, value.split_at(1).1.trim_ascii()))
}

/// A header block to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderBlock {
    /// Without the empty line at the end.
    bytes: Vec<u8>,
}

impl Default for HeaderBlock {
    fn default() -> Self {
        Self::new()
    }
}

impl HeaderBlock {
    /// A block without headers.
    pub fn new() -> Self {
        Self { bytes: [VERSION, LINE_END].concat() }
    }

    /// Adds a header.
    ///
    /// # Errors
    ///
    /// The name is empty or has characters other than letters, digits and `-`, the value has a control character or a
    /// space at one of its ends, or the block would be longer than [`HEADERS_MAXIMUM`].
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Invalid> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_of_name) {
            return Err(Invalid("the name of a header"));
        }
        if value.bytes().any(|byte| byte.is_ascii_control()) || value.trim() != value {
            return Err(Invalid("the value of a header"));
        }
        if self.length() + name.len() + value.len() + 4 > HEADERS_MAXIMUM {
            return Err(Invalid("headers longer than 16 KiB"));
        }
        for piece in [name.as_bytes(), b": ", value.as_bytes(), LINE_END] {
            self.bytes.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Its length in bytes, including the empty line at its end.
    pub const fn length(&self) -> usize {
        self.bytes.len() + LINE_END.len()
    }

    /// Appends it.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes);
        into.extend_from_slice(LINE_END);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(block: &[u8]) -> Option<(u16, &str)> {
        Headers::parse(block).unwrap().status().map(|status| (status.code, status.description))
    }

    #[test]
    fn a_status_may_have_a_description_and_headers() {
        assert_eq!(status(b"NATS/1.0\r\n\r\n"), None);
        assert_eq!(status(b"NATS/1.0 \r\n\r\n"), None);
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((StatusLine::NO_RESPONDERS, "")));
        assert_eq!(status(b"NATS/1.0 404 No Messages\r\n\r\n"), Some((404, "No Messages")));
        assert_eq!(status(b"NATS/1.0   100   Idle Heartbeat \r\n\r\n"), Some((100, "Idle Heartbeat")));
        let block = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\nNats-Last-Stream:77\r\n\r\n";
        let headers = Headers::parse(block).unwrap();
        assert_eq!(
            (headers.number("Nats-Last-Consumer"), headers.number("Nats-Last-Stream")),
            (Some(5), Some(77))
        );
        assert_eq!((headers.value("nats-last-stream"), headers.number("none")), (None, None));
    }

    #[test]
    fn the_first_of_equal_names_counts_and_values_are_trimmed() {
        let headers = Headers::parse(b"NATS/1.0\r\na:  x y \r\na:z\r\nb:\r\nc: 1:2\r\n\r\n").unwrap();
        assert_eq!(headers.iter().count(), 4);
        assert_eq!(
            ["a", "b", "c"].map(|name| headers.value(name)),
            [Some(&b"x y"[..]), Some(b""), Some(b"1:2")]
        );
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for block in [
            &b""[..],
            b"\r\n",
            b"NATS/1.0",
            b"NATS/1.0\r\n",
            b"NATS/2.0\r\n\r\n",
            b"NATS/1.0503\r\n\r\n",
            b"NATS/1.0 5\r\n\r\n",
            b"NATS/1.0 99999\r\n\r\n",
            b"NATS/1.0 abc\r\n\r\n",
            b"NATS/1.0 503 \xff\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\n: no name\r\n\r\n",
            b"NATS/1.0\r\na: b\r\n",
            b"NATS/1.0\r\na: b\r\nc: d\n\r\n",
            b"NATS/1.0\r\n\r\na: b\r\n\r\n",
        ] {
            assert!(Headers::parse(block).is_err(), "{:?}", String::from_utf8_lossy(block));
        }
        let long = [b"NATS/1.0\r\na:", &b"x".repeat(HEADERS_MAXIMUM)[..], b"\r\n\r\n"].concat();
        assert!(Headers::parse(&long).is_err());
    }

    #[test]
    fn headers_that_would_break_the_block_are_not_written() {
        let mut block = HeaderBlock::new();
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("a\r\n", "x"),
            ("a", "x\r\nb: c"),
            ("a", " x"),
            ("a", "\0"),
        ] {
            assert!(block.add(name, value).is_err(), "{name:?} {value:?}");
        }
        assert!(block.add("a", &"x".repeat(HEADERS_MAXIMUM)).is_err());
        assert_eq!(block, HeaderBlock::new());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            headers in prop::collection::vec(("[A-Za-z0-9-]{1,8}", "([!-~\u{e9}]([ -~]{0,8}[!-~])?)?"), 0..6)
        ) {
            let mut block = HeaderBlock::new();
            for (name, value) in &headers {
                block.add(name, value).unwrap();
            }
            let mut bytes = Vec::new();
            block.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), block.length());
            let read: Vec<_> = Headers::parse(&bytes).unwrap().iter().collect();
            let written: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn any_block_that_is_accepted_has_names(bytes in prop::collection::vec(prop::sample::select(b"NATS/1.0 5:a\r\n".to_vec()), 0..40)) {
            let block = [b"NATS/1.0", &bytes[..], b"\r\n\r\n"].concat();
            if let Ok(headers) = Headers::parse(&block) {
                prop_assert!(headers.iter().all(|(name, _)| !name.is_empty()));
            }
        }
    }
}
