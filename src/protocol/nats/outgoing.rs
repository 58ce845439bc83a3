//! What a client sends. Everything is checked before the first byte is written.

use std::io::Write as _;

use super::subject::is_printable;
use super::{HeaderBlock, Invalid, Subject, SubjectPattern};

/// The longest control line in bytes that the server accepts unless it is configured otherwise, without the line's end.
pub const LINE_MAXIMUM: usize = 4096;

const LINE_END: &[u8] = b"\r\n";
const LINE_TOO_LONG: Invalid = Invalid("a control line longer than 4096 bytes");

/// The name of a group of subscriptions that share messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueGroup<'a>(&'a str);

impl<'a> QueueGroup<'a> {
    /// Checks a name. `None` if it is empty or has spaces or control characters.
    pub fn new(name: &'a str) -> Option<Self> {
        (!name.is_empty() && is_printable(name)).then_some(Self(name))
    }
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Where to.
    pub subject: Subject<'a>,
    /// Where an answer is expected.
    pub reply: Option<Subject<'a>>,
    /// Its headers.
    pub headers: Option<&'a HeaderBlock>,
    /// Its payload, in pieces that follow each other.
    pub payload: &'a [&'a [u8]],
}

/// Appends PING.
pub fn write_ping(into: &mut Vec<u8>) {
    into.extend_from_slice(b"PING\r\n");
}

/// Appends PONG.
pub fn write_pong(into: &mut Vec<u8>) {
    into.extend_from_slice(b"PONG\r\n");
}

/// Appends SUB: opens a subscription with this number.
///
/// # Errors
///
/// The control line is too long.
pub fn write_subscribe(
    subject: SubjectPattern<'_>,
    queue: Option<QueueGroup<'_>>,
    subscription: u64,
    into: &mut Vec<u8>,
) -> Result<(), Invalid> {
    let queue = queue.map(|QueueGroup(name)| name.as_bytes());
    write_line(&[Some(b"SUB"), Some(subject.as_str().as_bytes()), queue], &[subscription], into)
}

/// Appends UNSUB: closes a subscription, at once or after it has received so many messages since it was opened.
pub fn write_unsubscribe(subscription: u64, after: Option<u64>, into: &mut Vec<u8>) {
    let numbers = [subscription, after.unwrap_or_default()];
    let count = 1 + usize::from(after.is_some());
    let written = write_line(&[Some(b"UNSUB")], numbers.split_at(count).0, into);
    assert!(written.is_ok(), "two numbers are not longer than a line");
}

impl Publication<'_> {
    /// The length of headers and payload together, which a server limits.
    pub fn size(&self) -> usize {
        self.headers.map_or(0, HeaderBlock::length)
            + self.payload.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// Appends PUB or HPUB.
    ///
    /// # Errors
    ///
    /// The control line is too long, or headers and payload are longer than `message_maximum` together.
    #[inline]
    pub fn encode(&self, message_maximum: usize, into: &mut Vec<u8>) -> Result<(), Invalid> {
        let size = self.size();
        if size > message_maximum {
            return Err(Invalid("a message larger than the server accepts"));
        }
        let subject = Some(self.subject.as_str().as_bytes());
        let reply = self.reply.map(|reply| reply.as_str().as_bytes());
        match self.headers {
            None => write_line(&[Some(b"PUB"), subject, reply], &[size as u64], into)?,
            Some(headers) => {
                let sizes = [headers.length() as u64, size as u64];
                write_line(&[Some(b"HPUB"), subject, reply], &sizes, into)?;
                headers.encode(into);
            }
        }
        for piece in self.payload {
            into.extend_from_slice(piece);
        }
        into.extend_from_slice(LINE_END);
        Ok(())
    }
}

/// Appends a control line of words and numbers, or nothing if it is too long.
fn write_line(words: &[Option<&[u8]>], numbers: &[u64], into: &mut Vec<u8>) -> Result<(), Invalid> {
    let start = into.len();
    let length: usize = words.iter().flatten().map(|word| word.len() + 1).sum();
    if length > LINE_MAXIMUM {
        return Err(LINE_TOO_LONG);
    }
    for word in words.iter().flatten() {
        if into.len() > start {
            into.push(b' ');
        }
        into.extend_from_slice(word);
    }
    for number in numbers {
        let written = write!(into, " {number}");
        assert!(written.is_ok(), "a vector takes any bytes");
    }
    if into.len() - start > LINE_MAXIMUM {
        into.truncate(start);
        return Err(LINE_TOO_LONG);
    }
    into.extend_from_slice(LINE_END);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn publication<'a>(subject: &'a str, payload: &'a [&'a [u8]]) -> Publication<'a> {
        Publication { subject: Subject::new(subject).unwrap(), reply: None, headers: None, payload }
    }

    #[test]
    fn lines_are_written_as_the_protocol_has_them() {
        assert_eq!(written(write_ping), "PING\r\n");
        assert_eq!(written(write_pong), "PONG\r\n");
        let pattern = SubjectPattern::new("a.>").unwrap();
        assert_eq!(written(|into| write_subscribe(pattern, None, 7, into).unwrap()), "SUB a.> 7\r\n");
        let queue = QueueGroup::new("q");
        assert_eq!(written(|into| write_subscribe(pattern, queue, 7, into).unwrap()), "SUB a.> q 7\r\n");
        assert_eq!(written(|into| write_unsubscribe(7, None, into)), "UNSUB 7\r\n");
        assert_eq!(written(|into| write_unsubscribe(7, Some(2), into)), "UNSUB 7 2\r\n");
        assert_eq!(["", "a b", "a\n"].map(QueueGroup::new), [None; 3]);
    }

    #[test]
    fn publications_are_written_with_and_without_headers() {
        let plain = publication("a.b", &[b"x", b"", b"yz"]);
        assert_eq!(written(|into| plain.encode(3, into).unwrap()), "PUB a.b 3\r\nxyz\r\n");
        let mut headers = HeaderBlock::new();
        headers.add("N", "v").unwrap();
        let headed = Publication { reply: Subject::new("r"), headers: Some(&headers), ..plain };
        let expected = "HPUB a.b r 18 21\r\nNATS/1.0\r\nN: v\r\n\r\nxyz\r\n";
        assert_eq!(written(|into| headed.encode(21, into).unwrap()), expected);
        assert_eq!(headed.size(), 21);
    }

    #[test]
    fn nothing_is_written_of_what_the_server_would_refuse() {
        let mut bytes = b"before".to_vec();
        assert!(publication("a", &[b"xyz"]).encode(2, &mut bytes).is_err());
        let headers = HeaderBlock::new();
        let headed = Publication { headers: Some(&headers), ..publication("a", &[b"x"]) };
        assert!(headed.encode(12, &mut bytes).is_err());
        for excess in 0..20 {
            let subject = "a".repeat(LINE_MAXIMUM - 10 + excess);
            let result = publication(&subject, &[b""]).encode(10, &mut bytes);
            assert_eq!(result.is_ok(), "PUB  0".len() + subject.len() <= LINE_MAXIMUM, "{excess}");
            if result.is_err() {
                assert!(bytes.ends_with(b"before") || bytes.ends_with(b" 0\r\n\r\n"), "nothing is left over");
            }
            let pattern = SubjectPattern::new(&subject).unwrap();
            let result = write_subscribe(pattern, None, 1, &mut Vec::new());
            assert_eq!(result.is_ok(), "SUB  1".len() + subject.len() <= LINE_MAXIMUM, "{excess}");
        }
    }
}
