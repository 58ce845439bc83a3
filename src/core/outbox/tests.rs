//! Which bytes are queued, in which order and in which buffers.

use super::*;
use crate::base::time::Time;
use crate::core::message::{Publication, Spares};
use crate::core::slots::{ConnectionMark, Slots};
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;
use proptest::prelude::*;

/// Takes so many bytes, then would block.
struct Throttled {
    taken: Vec<u8>,
    allowance: usize,
}

impl Write for Throttled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.allowance);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.allowance -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connection() -> ConnectionId {
    Slots::<ConnectionMark, ()>::default().insert_with(|_| ())
}

fn message(length: usize) -> Message {
    let publication = Publication {
        topic: TopicName::new("t").unwrap(),
        payload: &vec![b'p'; length],
        qos: QoS::AtMostOnce,
        retain: false,
        publisher: None,
        properties: Properties::default(),
        expires: Time::NEVER,
    };
    Message::new(&publication, &mut Spares::default())
}

#[test]
fn a_push_marks_once_and_an_empty_outbox_holds_no_buffer() {
    let mut dirty = DirtyList::default();
    let mut outbox = Outbox::new(connection());
    outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(b"ab"));
    outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(b"c"));
    assert_eq!(dirty.take(Vec::new()).len(), 1);
    let mut written = Vec::new();
    assert_eq!(outbox.write_to(&mut dirty, &mut written).unwrap(), 3);
    assert_eq!((written.as_slice(), outbox.sent()), (b"abc".as_slice(), 3));
    assert!(outbox.waiting.is_none() && dirty.is_empty());
}

#[test]
fn a_blocked_outbox_is_written_again_only_when_woken_or_pushed() {
    let mut dirty = DirtyList::default();
    let mut outbox = Outbox::new(connection());
    outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(b"abcdef"));
    dirty.take(Vec::new());
    let mut writer = Throttled { taken: Vec::new(), allowance: 4 };
    assert_eq!(outbox.write_to(&mut dirty, &mut writer).unwrap(), 4);
    assert!(dirty.is_empty());
    outbox.wake(&mut dirty);
    outbox.wake(&mut dirty);
    assert_eq!(dirty.take(Vec::new()).len(), 1);
    outbox.clear(&mut dirty);
    assert!(outbox.is_empty());
    outbox.check_invariants();
}

#[test]
fn the_bytes_that_the_socket_did_not_take_are_known() {
    let mut dirty = DirtyList::default();
    let mut outbox = Outbox::new(connection());
    for _ in 0..3 {
        outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(b"0123456789"));
    }
    assert_eq!(outbox.left(), Left::default(), "no write was tried");
    let mut writer = Throttled { taken: Vec::new(), allowance: 15 };
    outbox.write_to(&mut dirty, &mut writer).unwrap();
    assert_eq!(outbox.left(), Left { packets: 2, bytes: 15 });
    outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(b"0123456789"));
    outbox.write_to(&mut dirty, &mut writer).unwrap();
    assert_eq!(outbox.left(), Left { packets: 3, bytes: 25 });
    writer.allowance = 100;
    outbox.write_to(&mut dirty, &mut writer).unwrap();
    outbox.push(&mut dirty, |bytes| bytes.push(0));
    assert_eq!(outbox.left(), Left::default());
}

#[test]
fn the_places_of_a_peak_are_released() {
    let mut dirty = DirtyList::default();
    let mut outbox = Outbox::new(connection());
    let large = message(1);
    for _ in 0..10_000 {
        outbox.push_with_payload(&mut dirty, |bytes| bytes.push(0), &large);
    }
    outbox.write_to(&mut dirty, &mut io::sink()).unwrap();
    let mut audit = Audit::default();
    dirty.audit(&mut audit);
    assert!(audit.bytes() < SPARE_BYTES_MAXIMUM + 8192, "{}", audit.bytes());
    assert_eq!(dirty.spares.len(), 1);
    assert!(dirty.spares[0].chunks.capacity() <= SPARE_CHUNKS_MAXIMUM);
}

#[test]
fn spare_buffers_of_a_peak_are_released() {
    let mut dirty = DirtyList::default();
    let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::new(connection())).collect();
    for outbox in &mut outboxes {
        outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(&[0; 100]));
    }
    let mut turns = 0;
    while dirty.spares.is_empty() || dirty.spares.len() > 1 {
        dirty.take(Vec::new());
        for outbox in &mut outboxes {
            outbox.write_to(&mut dirty, &mut Vec::new()).unwrap();
        }
        outboxes.truncate(1);
        outboxes[0].push(&mut dirty, |bytes| bytes.extend_from_slice(&[0; 100]));
        turns += 1;
        assert!(turns <= 2 * TURNS_REMEMBERED, "{} are still there", dirty.spares.len());
    }
    assert!(turns >= TURNS_REMEMBERED, "buffers for a burst are not released between bursts");
    let bytes: usize = dirty.chunks.iter().map(Bytes::memory).sum();
    assert_eq!(dirty.chunk_bytes, bytes, "the spare bytes are counted");
}

proptest! {
    /// The naive model is one long string of bytes.
    #[test]
    fn bytes_leave_in_order_whatever_the_writer_takes(
        steps in prop::collection::vec((0_usize..100_000, any::<bool>(), 0_usize..150_000), 1..30),
    ) {
        let mut dirty = DirtyList::default();
        let mut outbox = Outbox::new(connection());
        let mut writer = Throttled { taken: Vec::new(), allowance: 0 };
        let mut expected = Vec::new();
        for (number, (length, is_payload, allowance)) in steps.into_iter().enumerate() {
            let mark = [u8::try_from(number).unwrap(); 3];
            let copied = [&mark[..], &vec![b'c'; length]].concat();
            expected.extend_from_slice(&copied);
            if is_payload {
                let message = message(length + 1);
                expected.extend_from_slice(message.payload());
                outbox.push_with_payload(&mut dirty, |bytes| bytes.extend_from_slice(&copied), &message);
            } else {
                outbox.push(&mut dirty, |bytes| bytes.extend_from_slice(&copied));
            }
            writer.allowance = allowance;
            outbox.write_to(&mut dirty, &mut writer).unwrap();
            outbox.check_invariants();
            prop_assert_eq!(outbox.end(), expected.len() as u64);
        }
        writer.allowance = usize::MAX;
        outbox.write_to(&mut dirty, &mut writer).unwrap();
        prop_assert!(writer.taken == expected);
        prop_assert!(outbox.waiting.is_none());
    }
}
