//! The body of the fuzz target for entries of the log. It reads any bytes, and writes any entry and damages it. It panics if
//! reading or writing does, or if a message that was read is a different one after it was written.

use super::{Entry, Record, Writer, next_record};
use crate::base::fuzzing::Input;
use crate::cluster::origin::Origin;

/// The first byte determines whether the rest is an entry or selects the content of one.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    if input.once_in(4) {
        check_read(input.bytes(usize::MAX));
        return;
    }
    const PUBLISHERS: [Option<&str>; 4] = [None, Some("0\0"), Some("65535\0a\0é"), Some("7\0c\0")];
    let origin = Origin { incarnation: input.number(), counter: input.number() };
    let mut writer = Writer::new(origin);
    let mut pushed = Vec::new();
    for _ in 0..input.below(4) {
        let publisher = input.pick(&PUBLISHERS);
        let length = input.below(100);
        let body = input.bytes(length);
        let packet = [&[0x32, u8::try_from(body.len()).expect("it is short")], body].concat();
        let (first, second) = packet.split_at(input.below(packet.len()));
        writer.push(publisher, [first, second]);
        pushed.push((publisher, packet));
    }
    let mut bytes = writer.into_bytes();
    let entry = Entry::read(&bytes).expect("it was written here");
    assert_eq!(entry.origin, origin);
    let read: Vec<_> =
        records(entry.records).map(|record| (record.publisher, record.packet.to_vec())).collect();
    assert_eq!(read, pushed);
    for _ in 0..input.below(4) {
        damage(&mut input, &mut bytes);
    }
    check_read(&bytes);
}

/// Reads messages up to the first one that is not valid.
fn records(mut rest: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (record, left) = next_record(rest).ok()?;
        assert!(left.len() < rest.len());
        rest = left;
        Some(record)
    })
}

/// Reads an entry that is perhaps not valid, and what is written of it.
fn check_read(bytes: &[u8]) {
    let Ok(entry) = Entry::read(bytes) else { return };
    let mut writer = Writer::new(entry.origin);
    records(entry.records).for_each(|record| writer.push(record.publisher, [record.packet, &[]]));
    let written = writer.into_bytes();
    assert!(written.len() <= bytes.len(), "it has no more than what was read");
    let again = Entry::read(&written).expect("it was written here");
    assert!(records(again.records).eq(records(entry.records)));
}

/// Changes, inserts or removes a byte.
fn damage(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = input.below(256) % bytes.len();
    match input.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, input.byte()),
        2 => drop(bytes.remove(at)),
        _ => bytes[at] = input.byte(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_entry_is_read_or_refused() {
        crate::base::fuzzing::try_out("cluster", 20_000, super::check);
    }
}
