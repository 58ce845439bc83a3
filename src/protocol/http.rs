//! The heads of HTTP/1.1 messages: a start line and fields, up to the empty line (RFC 9112). The callers decide which
//! fields matter and what the response is.

use crate::base::memory;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";
const VERSION: &str = "HTTP/1.1";

/// A head, or the part of it that has arrived.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    /// The maximum length in bytes, including its end.
    maximum: usize,
}

/// The result of receiving bytes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The head is not yet complete.
    Incomplete,
    /// The head is complete.
    Whole {
        /// The number of received bytes that belong to it.
        taken: usize,
    },
    /// The head is longer than its maximum length.
    TooLong,
}

/// The message is not valid HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Head {
    /// An empty head of at most `maximum` bytes.
    pub const fn new(maximum: usize) -> Self {
        Self { bytes: Vec::new(), maximum }
    }

    /// The heap memory that the head uses, in bytes.
    pub const fn memory(&self) -> usize {
        memory::allocation(self.bytes.capacity())
    }

    /// The bytes that have arrived, without those after the head.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it begins like a request, as far as it has arrived.
    pub fn may_be_request(&self) -> bool {
        let mut method = self.bytes.split(|&byte| byte == b' ').next().unwrap_or_default().iter();
        method.all(|&byte| is_of_token(byte))
    }

    /// Receives bytes until the head is complete.
    pub fn receive(&mut self, bytes: &[u8]) -> Arrival {
        let held = self.bytes.len();
        let room = self.maximum - held;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // The end may be split between two pieces.
        let start = held.saturating_sub(END.len() - 1);
        match self.bytes[start..].windows(END.len()).position(|window| window == END) {
            Some(found) => {
                let end = start + found;
                self.bytes.truncate(end);
                Arrival::Whole { taken: end + END.len() - held }
            }
            None if self.bytes.len() < self.maximum => Arrival::Incomplete,
            None => Arrival::TooLong,
        }
    }

    /// Parses a complete head as that of a request.
    ///
    /// # Errors
    ///
    /// The start line is not that of a request.
    pub fn request(&self) -> Result<Request<'_>, Malformed> {
        let (line, fields) = self.split()?;
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [method, target, version] = words[..] else { return Err(Malformed) };
        let is_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(method) || !is_target || version != VERSION {
            return Err(Malformed);
        }
        Ok(Request { method, target, fields })
    }

    /// Parses a complete head as that of a response.
    ///
    /// # Errors
    ///
    /// The start line is not that of a response.
    pub fn response(&self) -> Result<Response<'_>, Malformed> {
        let (line, fields) = self.split()?;
        let status = line.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix(' ')).ok_or(Malformed)?;
        let code = status.split_once(' ').map_or(status, |(code, _)| code);
        Ok(Response { code, fields })
    }

    fn split(&self) -> Result<(&str, Fields<'_>), Malformed> {
        let text = core::str::from_utf8(&self.bytes).map_err(|_| Malformed)?;
        let (line, rest) = text.split_once("\r\n").unwrap_or((text, ""));
        Ok((line, Fields { rest }))
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method. The common ones are in capitals.
    pub method: &'a str,
    /// The request target: printable ASCII, not empty.
    pub target: &'a str,
    /// The fields.
    pub fields: Fields<'a>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status code.
    pub code: &'a str,
    /// The fields.
    pub fields: Fields<'a>,
}

/// An iterator over the fields of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    rest: &'a str,
}

/// A field of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name in lower case.
    pub name: String,
    /// The value without surrounding white space. It has no control characters except tabs.
    pub value: &'a str,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once("\r\n").unwrap_or((self.rest, ""));
            self.rest = rest;
            if !line.is_empty() {
                return Some(field(line));
            }
        }
        None
    }
}

fn field(line: &str) -> Result<Field<'_>, Malformed> {
    let (name, value) = line.split_once(':').ok_or(Malformed)?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) || value.contains(|character: char| character.is_control() && character != '\t') {
        return Err(Malformed);
    }
    Ok(Field { name: name.to_ascii_lowercase(), value })
}

/// Stores the value of a field that may occur only once.
///
/// # Errors
///
/// The field occurs for the second time.
pub fn once<'a>(taken: &mut Option<&'a str>, value: &'a str) -> Result<(), Malformed> {
    if taken.replace(value).is_some() { Err(Malformed) } else { Ok(()) }
}

/// The items of a comma-separated list.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|item| item.trim_matches([' ', '\t']))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_of_token)
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: &str = "GET /a?b HTTP/1.1\r\nHost: c\r\nX-List:\t1, 2 \r\n\r\n";

    fn whole(text: &str) -> Head {
        let mut head = Head::new(1024);
        let text = format!("{text}\r\n\r\n");
        assert_eq!(head.receive(text.as_bytes()), Arrival::Whole { taken: text.len() });
        head
    }

    #[test]
    fn a_request_has_a_method_a_target_and_fields() {
        let mut head = Head::new(1024);
        assert_eq!(head.receive(REQUEST.as_bytes()), Arrival::Whole { taken: REQUEST.len() });
        let request = head.request().unwrap();
        assert_eq!((request.method, request.target), ("GET", "/a?b"));
        let fields: Vec<_> = request.fields.map(|field| field.unwrap()).collect();
        let names: Vec<_> = fields.iter().map(|field| (&*field.name, field.value)).collect();
        assert_eq!(names, [("host", "c"), ("x-list", "1, 2")]);
        assert_eq!(items(fields[1].value).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn other_start_lines_are_malformed() {
        for line in
            ["", "GET", "GET /", "GET  HTTP/1.1", "GET / a HTTP/1.1", "G(T / HTTP/1.1", "GET / HTTP/1.0"]
        {
            assert_eq!(whole(line).request(), Err(Malformed), "{line}");
        }
        for line in ["", "HTTP/1.1", "HTTP/1.0 200 OK", "HTTP/1.12 200", "200 OK"] {
            assert_eq!(whole(line).response(), Err(Malformed), "{line}");
        }
        for line in ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 Very well"] {
            assert_eq!(whole(line).response().unwrap().code, "200", "{line}");
        }
    }

    #[test]
    fn other_fields_are_malformed() {
        for field in ["a", ":b", "a :b", " a:b", "a(:b", "a:b\0c", "a:b\rc", "a:b\nc:d"] {
            let head = whole(&format!("HTTP/1.1 200\r\nfirst: 1\r\n{field}\r\nlast: 2"));
            let fields: Vec<_> = head.response().unwrap().fields.map(|field| field.is_ok()).collect();
            assert_eq!(fields, [true, false, true], "{field:?}");
        }
    }

    #[test]
    fn a_field_that_may_occur_once_may_not_occur_twice() {
        let mut taken = None;
        assert_eq!(once(&mut taken, "a"), Ok(()));
        assert_eq!(once(&mut taken, "a"), Err(Malformed));
    }

    #[test]
    fn the_length_of_a_head_is_limited() {
        let mut head = Head::new(1024);
        for _ in 0..1023 {
            assert_eq!(head.receive(b"x"), Arrival::Incomplete);
        }
        assert_eq!(head.receive(&[b'x'; 4096]), Arrival::TooLong);
        assert_eq!(head.bytes.len(), 1024);
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_result_as_the_whole(pieces in prop::collection::vec(1_usize..20, 0..20)) {
            let stream = [REQUEST.as_bytes(), b"a body follows"].concat();
            let mut head = Head::new(REQUEST.len());
            let mut start = 0;
            for piece in pieces.into_iter().chain([stream.len()]) {
                let end = stream.len().min(start + piece);
                match head.receive(&stream[start..end]) {
                    Arrival::Incomplete => prop_assert!(end < REQUEST.len()),
                    Arrival::Whole { taken } => {
                        prop_assert_eq!(start + taken, REQUEST.len());
                        prop_assert!(head.request().is_ok());
                        break;
                    }
                    Arrival::TooLong => prop_assert!(false, "it has an end"),
                }
                start = end;
            }
        }
    }
}
