//! Tests of what is sent and received together.

mod recorded;

use proptest::prelude::*;

use super::*;
use crate::protocol::codec::Status;

/// What a server makes of one publication.
#[derive(Clone, Debug)]
struct Sent {
    subject: String,
    reply: Option<String>,
    headers: Option<Vec<(String, String)>>,
    payload: Vec<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let subject =
        || "[a-z$%*>]{1,4}(\\.[a-z]{1,3}){0,3}".prop_filter("a subject", |text| Subject::new(text).is_some());
    let headers = prop::collection::vec(("[A-Z-]{1,4}", "[a-z:]{0,4}"), 0..3);
    let payload = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3);
    (subject(), prop::option::of(subject()), prop::option::of(headers), payload)
        .prop_map(|(subject, reply, headers, payload)| Sent { subject, reply, headers, payload })
}

impl Sent {
    fn block(&self) -> Option<HeaderBlock> {
        let headers = self.headers.as_ref()?;
        let mut block = HeaderBlock::new();
        headers.iter().for_each(|(name, value)| block.add(name, value).unwrap());
        Some(block)
    }

    /// Appends what the server sends to the subscription with the number 7: the line of the client with the other word
    /// and the number after the subject.
    fn deliver(&self, into: &mut Vec<u8>) {
        let (block, pieces) = (self.block(), self.payload.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let publication = Publication {
            subject: Subject::new(&self.subject).unwrap(),
            reply: self.reply.as_deref().and_then(Subject::new),
            headers: block.as_ref(),
            payload: &pieces,
        };
        let mut bytes = Vec::new();
        publication.encode(usize::MAX, &mut bytes).unwrap();
        let after_subject = bytes.iter().position(|&byte| byte == b' ').unwrap() + 1 + self.subject.len();
        let (line, rest) = bytes.split_at(after_subject);
        into.extend_from_slice(if block.is_some() { b"HMSG " } else { b"MSG " });
        into.extend_from_slice(&line[after_subject - self.subject.len()..]);
        into.extend_from_slice(b" 7");
        into.extend_from_slice(rest);
    }

    fn check(&self, message: &Message<'_>) {
        assert_eq!(message.subject, self.subject.as_bytes());
        assert_eq!(message.reply, self.reply.as_deref().map(str::as_bytes));
        assert_eq!((message.subscription, message.payload), (7, &*self.payload.concat()));
        let headers = message.headers.map(|block| Headers::parse(block).unwrap().iter().collect::<Vec<_>>());
        let expected = self.headers.as_ref().map(|headers| {
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect::<Vec<_>>()
        });
        assert_eq!(headers, expected);
    }
}

/// Parses a stream that arrives in pieces, and describes everything in it.
fn parse(stream: &[u8], mut cuts: impl Iterator<Item = usize>, maximum: usize) -> Vec<String> {
    let (mut found, mut from, mut until) = (Vec::new(), 0, 0);
    loop {
        match decode(&stream[from..until], maximum) {
            Ok(Status::Complete(Decoded { incoming, length })) => {
                found.push(format!("{incoming:?}"));
                from += length;
                if let Incoming::TooLarge { following, .. } = incoming {
                    from = stream.len().min(from + usize::try_from(following).unwrap());
                    until = until.max(from);
                }
            }
            Ok(Status::Incomplete { needed }) => {
                assert!(needed > until - from, "more is needed than there is");
                if until == stream.len() {
                    found.push(format!("{} bytes are left", stream.len() - from));
                    return found;
                }
                until = stream.len().min(until + cuts.next().unwrap_or(usize::MAX - until).max(1));
            }
            Err(Malformed(why)) => {
                found.push(why.to_owned());
                return found;
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_published_is_received(all in prop::collection::vec(sent(), 1..4)) {
        let mut bytes = Vec::new();
        all.iter().for_each(|sent| sent.deliver(&mut bytes));
        let mut rest = &bytes[..];
        for sent in &all {
            let Ok(Status::Complete(Decoded { incoming: Incoming::Message(message), length })) =
                decode(rest, usize::MAX)
            else {
                panic!("{:?}", String::from_utf8_lossy(rest));
            };
            sent.check(&message);
            rest = &rest[length..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn pieces_give_the_same_result_as_the_whole(
        all in prop::collection::vec(sent(), 0..4),
        lines in prop::collection::vec(prop::sample::select(vec!["PING\r\n", "+OK\r\n", "-ERR 'x'\r\n", "INFO {}\r\n", "MSG a\r\n"]), 0..4),
        cuts in prop::collection::vec(1_usize..30, 0..20),
        maximum in 0_usize..60,
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = lines.concat().into_bytes();
        all.iter().for_each(|sent| sent.deliver(&mut bytes));
        if let Some((place, byte)) = damage && !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let whole = parse(&bytes, std::iter::empty(), maximum);
        prop_assert_eq!(&parse(&bytes, cuts.iter().copied(), maximum), &whole);
        prop_assert_eq!(&parse(&bytes, std::iter::repeat(1), maximum), &whole);
    }
}
