//! Entries that are whole, of another version, cut off and wrong.

use super::*;

const ORIGIN: Origin = Origin { incarnation: u64::MAX - 7, counter: 1 << 40 };
const PACKETS: [&[u8]; 2] = [b"\x32\x07\0\x01a\0\x01\0x", b"\x31\x05\0\x01b\0y"];

fn written() -> Vec<u8> {
    let mut writer = Writer::new(ORIGIN);
    assert!(writer.is_empty());
    writer.push(Some("1\0client\0user"), [PACKETS[0], &[]]);
    writer.push(None, PACKETS[1].split_at(3).into());
    assert!(!writer.is_empty());
    writer.into_bytes()
}

#[test]
fn what_is_written_is_read() {
    let bytes = written();
    let Entry { origin, records } = Entry::read(&bytes).unwrap();
    assert_eq!(origin, ORIGIN);
    let (first, rest) = next_record(records).unwrap();
    assert_eq!(first, Record { publisher: Some("1\0client\0user"), packet: PACKETS[0] });
    let (second, rest) = next_record(rest).unwrap();
    assert_eq!((second, rest), (Record { publisher: None, packet: PACKETS[1] }, &[][..]));
}

#[test]
fn the_next_version_is_read_and_its_fields_are_skipped() {
    let mut bytes = Writer::new(ORIGIN).into_bytes();
    bytes[0] = VERSION + 1;
    bytes.extend(b"\0\x11\x09\0\x02zz\x01\0\x03\x31\0c\x07\0\0\x08\0\0");
    bytes.truncate(bytes.len() - 3);
    bytes[HEAD_LENGTH + 1] = 14;
    bytes.extend(PACKETS[0]);
    let entry = Entry::read(&bytes).unwrap();
    let (record, rest) = next_record(entry.records).unwrap();
    assert_eq!((record.publisher, record.packet, rest), (Some("1\0c"), PACKETS[0], &[][..]));
    for version in [0, VERSION + 2, u8::MAX] {
        bytes[0] = version;
        assert!(Entry::read(&bytes).is_err(), "{version}");
    }
}

#[test]
fn what_no_node_writes_is_refused() {
    let bytes = written();
    for length in 0..HEAD_LENGTH {
        assert!(Entry::read(&bytes[..length]).is_err());
    }
    let records = Entry::read(&bytes).unwrap().records;
    let (_, rest) = next_record(records).unwrap();
    let first = records.len() - rest.len();
    for length in 0..first {
        assert!(next_record(&records[..length]).is_err(), "{length}");
    }
    let wrong: [&[u8]; 6] = [
        b"\0\x03\x01\0\x01",
        b"\0\x02\x01\0",
        b"\0\x05\x01\0\x02\xff\xff",
        b"\0\x04\x01\0\x01x",
        b"\0\x06\x01\0\x03x\0c",
        b"\0\x0c\x01\0\x031\0c\x01\0\x031\0c",
    ];
    for fields in wrong {
        assert!(next_record(&[fields, PACKETS[0]].concat()).is_err(), "{fields:?}");
    }
}
