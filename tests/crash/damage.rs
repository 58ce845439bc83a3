//! The store of a real broker with random damage: bits and bytes, pages, whole ends of its file and its journal.
//! Messages delivered from it are those that were published, to the right client. Whatever is missing was reported, or
//! the broker did not start and said what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use brooklet::base::time::Time;
use brooklet::core::journal::{Fetch, Pages, Restored, SessionNumber, StoredDelivery};
use brooklet::core::message::Portable;
use brooklet::settings::{ListenerName, OnDamage};
use brooklet::storage::store::{Opening, Store, StoreError, Wanted};
use brooklet::storage::timeline::Clocks;

use crate::broker::Place;
use crate::chance::Chance;
use crate::peer::Peer;
use crate::refusals::ends;
use crate::server::Server;
use crate::wire::{Connect, PINGREQ, PINGRESP, Publish, V5, acknowledge, received};

/// The number of random damages.
const DAMAGES: u64 = 200;
/// Damages on which the real binary is started. All of them are tried in this process.
const BY_BINARY: usize = 4;
const PAGE: usize = 4096;
const FRAME: usize = PAGE + 24;
const WALL: u64 = 1_700_000_000_000;

/// The file and its journal.
#[derive(Clone)]
struct Files {
    file: Vec<u8>,
    journal: Vec<u8>,
}

#[expect(clippy::disallowed_methods, reason = "this is about files")]
impl Files {
    fn of(directory: &Path) -> Self {
        let read = |name: &str| fs::read(directory.join(name)).unwrap_or_default();
        Self { file: read("brooklet.db"), journal: read("brooklet.db-wal") }
    }

    fn write(&self, directory: &Path) {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).expect("a directory can be made");
        fs::write(directory.join("brooklet.db"), &self.file).expect("a file can be written");
        fs::write(directory.join("brooklet.db-wal"), &self.journal).expect("a file can be written");
    }

    /// The number of frames of the journal that were written since it last started from its beginning.
    fn frames(&self) -> usize {
        let frames = self.journal[32..].chunks_exact(FRAME);
        frames.take_while(|frame| frame[8..16] == self.journal[16..24]).count()
    }

    /// The offset of the last transaction in the journal.
    fn last_transaction(&self) -> usize {
        let frames = self.frames();
        let is_commit = |frame: usize| self.journal[32 + frame * FRAME + 4..][..4] != [0; 4];
        let before = (0..frames - 1).rev().find(|&frame| is_commit(frame)).expect("there are several");
        32 + (before + 1) * FRAME
    }
}

/// One store at several times.
struct Stages {
    /// Some time before.
    older: Files,
    /// With data in the journal that is not in the file.
    killed: Files,
    /// With all data in the file.
    whole: Files,
}

/// The damage done to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Bits,
    Bytes,
    ZeroPage,
    SwapPages,
    Truncate,
    JournalBit,
    JournalBytes,
    JournalTruncate,
    /// A page as it was some time before, intact.
    OlderPage,
}

const HARMS: [Harm; 9] = [
    Harm::Bits,
    Harm::Bytes,
    Harm::ZeroPage,
    Harm::SwapPages,
    Harm::Truncate,
    Harm::JournalBit,
    Harm::JournalBytes,
    Harm::JournalTruncate,
    Harm::OlderPage,
];

/// Damages a copy. Returns whether that cannot be detected: the end of the journal is gone or torn, as after a power
/// cut, or a page is an older, intact one.
fn harm(stages: &Stages, harm: Harm, chance: &mut Chance) -> (Files, bool) {
    let Stages { older, killed: files, whole } = stages;
    let mut harmed = files.clone();
    let (pages, last) = (files.file.len() / PAGE, files.last_transaction());
    let page = |number: usize| number * PAGE..(number + 1) * PAGE;
    let (mut place, live) = (files.journal.len(), 32 + files.frames() * FRAME);
    match harm {
        Harm::Bits => {
            for _ in 0..chance.between(1, 3) {
                let byte = chance.below(harmed.file.len());
                harmed.file[byte] ^= 1 << chance.below(8);
            }
        }
        Harm::Bytes => {
            let start = chance.below(harmed.file.len() - 64);
            harmed.file[start..start + 64].iter_mut().for_each(|byte| *byte = chance.next().to_le_bytes()[0]);
        }
        Harm::ZeroPage => harmed.file[page(chance.below(pages))].fill(0),
        Harm::SwapPages => {
            let (one, other) = (chance.below(pages), chance.below(pages));
            harmed.file[page(one)].copy_from_slice(&files.file[page(other)]);
            harmed.file[page(other)].copy_from_slice(&files.file[page(one)]);
        }
        Harm::Truncate => harmed.file.truncate(chance.below(files.file.len())),
        Harm::JournalBit => {
            place = chance.below(live);
            harmed.journal[place] ^= 1 << chance.below(8);
        }
        Harm::JournalBytes => {
            place = chance.below(live - 64);
            let bytes = harmed.journal[place..place + 64].iter_mut();
            bytes.for_each(|byte| *byte = chance.next().to_le_bytes()[0]);
        }
        Harm::JournalTruncate => harmed.journal.truncate(chance.below(live)),
        Harm::OlderPage => {
            harmed = whole.clone();
            let differ = |number: &usize| whole.file[page(*number)] != older.file[page(*number)];
            let others: Vec<usize> =
                (0..whole.file.len().min(older.file.len()) / PAGE).filter(differ).collect();
            let number = chance.pick(&others);
            harmed.file[page(number)].copy_from_slice(&older.file[page(number)]);
        }
    }
    let is_of_journal = matches!(harm, Harm::JournalBit | Harm::JournalBytes);
    let is_undetectable =
        matches!(harm, Harm::JournalTruncate | Harm::OlderPage) || is_of_journal && place + 64 > last;
    (harmed, is_undetectable)
}

/// The payload that belongs to a topic. Its length follows from the topic as well.
fn payload_of(topic: &str) -> Vec<u8> {
    let seed = topic.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut chance = Chance::new(seed);
    let longest = chance.pick(&[20, 300, 300, 3_000, 12_000]);
    let length = usize::try_from(chance.between(1, longest)).expect("it is small");
    std::iter::repeat_with(|| chance.next().to_le_bytes()).flatten().take(length).collect()
}

/// The clients and their subscriptions.
const SUBSCRIPTIONS: [(&str, &str, u8); 5] = [
    ("one", "q/1/#", 1),
    ("two", "q/2/#", 2),
    ("all", "q/#", 1),
    ("left", "$share/g/s/#", 1),
    ("right", "$share/g/s/#", 1),
];

fn may_get(client: &str, topic: &str) -> bool {
    let mut of_client = SUBSCRIPTIONS.iter().filter(|(name, _, _)| *name == client);
    of_client
        .any(|(_, filter, _)| topic.starts_with(filter.trim_start_matches("$share/g/").trim_end_matches('#')))
}

/// The contents of a store, each fact in words, and whether damage was reported.
#[derive(Debug, Default)]
struct Found {
    facts: BTreeSet<String>,
    is_told: bool,
}

/// Reads a whole store, as a broker does, or returns why it is refused.
fn read(directory: &Path) -> Result<Found, String> {
    let listeners = vec![ListenerName { name: "a".to_owned(), proves_names: false }];
    let clocks = Clocks { now: Time::ZERO, boot: None, wall: WALL };
    let opening = Opening { listeners, on_damage: OnDamage::Refuse, clocks };
    let mut store =
        Store::open(&directory.join("brooklet.db"), opening).map_err(|error| error.to_string())?;
    let (mut found, mut names, mut wanted) = (Found::default(), BTreeMap::new(), Wanted::default());
    let each = |restored| found.take(restored, &mut names, &mut wanted);
    store.load(Time::ZERO, each).map_err(|error| error.to_string())?;
    while !wanted.is_empty() {
        let pages = match store.read(&mut wanted, Time::ZERO, || false) {
            Err(StoreError::Damaged(why)) => store.give_up(&mut wanted, &why),
            pages => pages.map_err(|error| error.to_string())?,
        };
        found.take_pages(&pages, &names);
    }
    found.is_told |= store.damaged() > 0 || store.severed().commits > 0;
    Ok(found)
}

type Names = BTreeMap<SessionNumber, String>;

impl Found {
    fn note(&mut self, fact: String) {
        self.facts.insert(fact);
    }

    fn take(&mut self, restored: Restored, names: &mut Names, wanted: &mut Wanted) {
        match restored {
            Restored::Session(session) => {
                let (number, name) = (session.number, session.client_identifier);
                self.note(format!("session {name} {:?} {:?}", session.user_name, session.expiry_interval));
                names.insert(number, name);
            }
            Restored::Subscription(session, subscription) => {
                self.note(format!("{} subscribes {subscription:?}", names[&session]));
            }
            Restored::Received(session, identifier) => {
                self.note(format!("{} has sent {}", names[&session], identifier.value()));
            }
            Restored::Delivery(session, StoredDelivery { identifier, is_released, .. }, copy) => {
                let (name, identifier) = (names[&session].clone(), identifier.value());
                self.note(format!("{identifier} is on its way to {name}, released: {is_released}"));
                if let Some(copy) = copy {
                    self.copy(&name, &copy.message);
                }
            }
            Restored::Arrived(..) => {}
            Restored::Former(_) => self.note("a session has left messages to others".to_owned()),
            Restored::Begun { content, recipients, .. } => {
                for recipient in recipients {
                    let identifier = recipient.identifier.expect("it has begun").value();
                    let name = names[&recipient.session].clone();
                    self.note(format!("{identifier} is on its way to {name}"));
                    self.copy(&name, &content);
                }
            }
            Restored::Waiting { message, sessions, .. } => {
                sessions.iter().for_each(|&session| wanted.add(Fetch { session, messages: vec![message] }));
            }
            Restored::Retained(message) => {
                let topic = checked(&message);
                assert!(topic.starts_with("r/"), "{topic}");
                self.note(format!("retained {topic}"));
            }
            Restored::Owed(owed) => self.note(format!("{owed:?}")),
        }
    }

    fn take_pages(&mut self, pages: &Pages, names: &Names) {
        for page in &pages.pages {
            for copy in &page.copies {
                match &copy.found {
                    Some((place, _)) => self.copy(&names[&page.session], &pages.messages[*place]),
                    // The broker reports that it is missing, and counts it.
                    None => self.is_told = true,
                }
            }
        }
    }

    fn copy(&mut self, client: &str, message: &Portable) {
        let topic = checked(message);
        assert!(may_get(client, &topic), "{topic} for {client}");
        self.note(format!("{client} gets {topic}"));
    }
}

/// The topic of a message, after checking that it is as published.
fn checked(message: &Portable) -> String {
    let publication = message.publication();
    let topic = publication.topic.as_str();
    assert!(publication.payload == payload_of(topic), "another payload for {topic}");
    topic.to_owned()
}

/// Clients fill a store in three runs of a broker. The last run is killed, so that its journal has contents.
fn filled(place: &mut Place) -> Stages {
    let mut older = None;
    for life in 0..3 {
        let server = place.start();
        if life == 0 {
            for (name, filter, qos) in SUBSCRIPTIONS {
                let mut peer = come(&server, name);
                assert_eq!(peer.subscribe(filter, qos), qos);
                peer.disconnect();
            }
        }
        let mut publisher = come(&server, "publisher");
        for number in life * 60..life * 60 + 40 {
            publish(&mut publisher, &format!("q/{}/{number}", number % 4), false);
            if number % 3 == 0 {
                publish(&mut publisher, &format!("s/{number}"), false);
                publish(&mut publisher, &format!("r/{number}"), true);
            }
        }
        act(&server, life);
        for number in life * 60 + 40..life * 60 + 60 {
            publish(&mut publisher, &format!("q/{}/{number}", number % 4), false);
        }
        server.signal(if life < 2 { "TERM" } else { "KILL" });
        server.wait_for_end();
        older.get_or_insert_with(|| Files::of(&place.data()));
    }
    let killed = Files::of(&place.data());
    let server = place.start();
    server.signal("TERM");
    server.wait_for_end();
    Stages { older: older.expect("there were several lives"), killed, whole: Files::of(&place.data()) }
}

fn come(server: &Server, name: &str) -> Peer {
    Peer::connect_as(server.address(), &Connect::new(V5, name).resume().expiry(u32::MAX))
}

/// Publishes at QoS 1, or at QoS 2 if there are such subscriptions.
fn publish(publisher: &mut Peer, topic: &str, is_retained: bool) {
    let publish = Publish::new(V5, topic, &payload_of(topic));
    if topic.starts_with("q/2/") {
        for (packet, answer) in [(publish.qos(2, 7).bytes(), 0x50), (acknowledge(0x62, 7), 0x70)] {
            publisher.send(&packet);
            assert_eq!(publisher.packet()[0], answer);
        }
    } else {
        let publish = if is_retained { publish.retain() } else { publish };
        assert!(matches!(publisher.publish(publish), 0 | 0x10));
    }
}

/// Leaves records of settled messages, and of QoS 2 messages in flight in both directions.
fn act(server: &Server, life: u16) {
    let mut one = come(server, "one");
    for _ in 0..5 {
        let identifier = received(V5, &one.packet()).packet_identifier.expect("it is of QoS 1");
        one.send(&acknowledge(0x40, identifier));
    }
    one.disconnect();
    let mut two = come(server, "two");
    let next = std::iter::repeat_with(|| two.packet()).filter(|packet| packet[0] >> 4 == 3);
    let identifiers: Vec<u16> =
        next.take(6).filter_map(|packet| received(V5, &packet).packet_identifier).collect();
    for identifier in &identifiers[..3] {
        two.send(&acknowledge(0x50, *identifier));
    }
    for number in 1..4 {
        let topic = format!("q/3/in-{life}-{number}");
        two.send(&Publish::new(V5, &topic, &payload_of(&topic)).qos(2, life * 10 + number).bytes());
    }
    for _ in 0..3 {
        while two.packet()[0] != 0x50 {}
    }
    two.disconnect();
}

#[test]
fn damaged_data_is_never_delivered_and_never_missing_without_a_report() {
    let mut place = Place::new("damage", "max_queued_messages 0\n");
    let stages = filled(&mut place);
    let directory = place.data();
    stages.whole.write(&directory);
    let whole = read(&directory).expect("it is sound");
    stages.killed.write(&directory);
    let sound = read(&directory).expect("it is sound");
    assert_eq!(whole.facts, sound.facts);
    assert!(!sound.is_told, "a kill does no damage");
    for fact in
        ["one gets q/1/", "two gets q/2/", "all gets q/", "gets s/", "retained r/", "has sent", "on its way"]
    {
        let count = sound.facts.iter().filter(|known| known.contains(fact)).count();
        assert!(count >= 2, "{count} times {fact}");
    }
    let first = crate::number("SEED").unwrap_or(0);
    let mut counts: BTreeMap<(Harm, &str), u32> = BTreeMap::new();
    let (mut interesting, mut silent) = (Vec::new(), Vec::new());
    for seed in first..first + DAMAGES {
        let mut chance = Chance::new(seed);
        let kind = HARMS[usize::try_from(seed).expect("small") % HARMS.len()];
        let (harmed, is_undetectable) = harm(&stages, kind, &mut chance);
        harmed.write(&directory);
        let outcome = match read(&directory) {
            Err(why) => {
                assert!(names_a_remedy(&why), "seed {seed}, {kind:?}: {why}");
                interesting.push((harmed, true));
                "refused"
            }
            Ok(found) if found.is_told => {
                interesting.push((harmed, false));
                "reported"
            }
            Ok(found) if found.facts == sound.facts => "nothing is missing",
            Ok(_) if is_undetectable => "cannot be detected",
            Ok(found) => {
                let missing: Vec<_> = sound.facts.symmetric_difference(&found.facts).take(3).collect();
                silent.push(format!("seed {seed}, {kind:?}: {missing:?}"));
                "SILENT"
            }
        };
        *counts.entry((kind, outcome)).or_default() += 1;
    }
    for ((harm, outcome), count) in &counts {
        println!("{harm:?}: {outcome}: {count}");
    }
    assert_eq!(silent, Vec::<String>::new(), "missing without a report");
    let of = |outcome: &str| {
        counts.iter().filter(|((_, is), _)| *is == outcome).map(|(_, count)| count).sum::<u32>()
    };
    assert!(of("reported") + of("refused") > 60, "most damage is detected");
    // These are the last transaction of the journal, everything cut off from it, and older pages.
    assert!(of("cannot be detected") < 60);
    for is_refused in [false, true] {
        let some = interesting.iter().filter(|(_, refused)| *refused == is_refused).take(BY_BINARY);
        some.for_each(|(harmed, _)| start_on(&mut place, harmed, is_refused));
    }
}

fn names_a_remedy(why: &str) -> bool {
    ["Put a copy from a backup in its place", "Choose another persistence_file"]
        .iter()
        .any(|what| why.contains(what))
}

/// Starts the real broker on damaged files.
fn start_on(place: &mut Place, harmed: &Files, is_refused: bool) {
    harmed.write(&place.data());
    if is_refused {
        let (code, said) = ends(place.command());
        return assert!(code == Some(1) && names_a_remedy(&said), "{code:?}: {said}");
    }
    for is_first in [true, false] {
        let server = place.start();
        let mut peers: Vec<Peer> = SUBSCRIPTIONS.iter().map(|(name, _, _)| come(&server, name)).collect();
        let is_told = || {
            let told = server.lines_with("Warning: ");
            told.iter().any(|line| line.contains("damaged") || line.contains("missing in the store"))
        };
        // Damaged messages are reported when they are read for their clients.
        for round in 0.. {
            SUBSCRIPTIONS.iter().zip(&mut peers).for_each(|((name, _, _), peer)| take(name, peer));
            if !is_first || is_told() {
                break;
            }
            assert!(round < 5_000, "it was never reported");
            std::thread::sleep(Duration::from_millis(2));
        }
        Peer::connect(server.address(), "still there").disconnect();
        server.signal("KILL");
        server.wait_for_end();
    }
}

/// Takes what the broker has sent to a client so far: its answer to a ping comes after it.
fn take(name: &str, peer: &mut Peer) {
    peer.send(&PINGREQ);
    let packets = std::iter::repeat_with(|| peer.packet()).take_while(|packet| packet[0] != PINGRESP[0]);
    for packet in packets.filter(|packet| packet[0] >> 4 == 3) {
        let message = received(V5, &packet);
        assert!(message.payload == payload_of(&message.topic), "another payload for {}", message.topic);
        assert!(may_get(name, &message.topic), "{} for {name}", message.topic);
    }
}
