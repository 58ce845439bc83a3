//! Nodes that say to each other which clients are connected, over a network that delays, reorders, repeats and loses.

use super::*;

/// 2027.
const WALL: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;
const CLIENTS: usize = 3;

fn client(number: usize) -> ClientHash {
    ClientHash::of(&format!("client {number}"), None)
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("it is small")
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

struct Node {
    claims: Claims,
    /// The clients that are connected here, by their numbers.
    connections: BTreeMap<ConnectionId, usize>,
    /// When the node has started, in the true time; its own begins then.
    began: u64,
    /// Messages to it that are on their way.
    arriving: Vec<Vec<u8>>,
}

impl Node {
    fn now(&self, time: u64) -> Time {
        Time::from_milliseconds(time - self.began)
    }
}

struct World {
    nodes: Vec<Node>,
    /// The true time.
    time: u64,
    connections: u32,
    messages: usize,
}

impl World {
    /// Nodes whose clocks are ahead by so many milliseconds.
    fn new(ahead: &[u64]) -> Self {
        let mut world = Self { nodes: Vec::new(), time: 10_000, connections: 0, messages: 0 };
        for (number, ahead) in ahead.iter().enumerate() {
            let began = world.time - 1_000 * number as u64;
            let wall = Duration::from_milliseconds(WALL + world.time + ahead);
            let now = Time::from_milliseconds(world.time - began);
            let claims = Claims::new([7, 3, 5][number], wall, now);
            let node = Node { claims, connections: BTreeMap::new(), began, arriving: Vec::new() };
            world.nodes.push(node);
        }
        world.nodes.iter_mut().for_each(|node| node.claims.begin_again());
        world
    }

    /// Connects a client, which ends an older connection at the same node.
    fn connect(&mut self, place: usize, number: usize) -> ConnectionId {
        self.time += 1;
        self.connections += 1;
        let connection = ConnectionId::of(self.connections, 0);
        let node = &mut self.nodes[place];
        let older = node.connections.iter().find(|(_, known)| **known == number).map(|(&id, _)| id);
        if let Some(older) = older {
            node.connections.remove(&older);
            node.claims.ended(older);
        }
        node.connections.insert(connection, number);
        let now = node.now(self.time);
        node.claims.connected(client(number), connection, now);
        connection
    }

    fn disconnect(&mut self, place: usize, connection: ConnectionId) {
        self.nodes[place].connections.remove(&connection);
        self.nodes[place].claims.ended(connection);
    }

    /// A node says one message, if it has one, to those that `arrives` selects.
    fn say(&mut self, from: usize, arrives: &mut dyn FnMut(usize) -> bool) -> bool {
        let now = self.nodes[from].now(self.time);
        let mut body = Vec::new();
        if !self.nodes[from].claims.write_next(HEAD_LENGTH + 2 * ENTRY_LENGTH + 1, now, &mut body) {
            return false;
        }
        self.messages += 1;
        for (place, node) in self.nodes.iter_mut().enumerate() {
            if arrives(place) {
                node.arriving.push(body.clone());
            }
        }
        true
    }

    fn hear(&mut self, place: usize, body: &[u8]) {
        let node = &mut self.nodes[place];
        let now = node.now(self.time);
        node.claims.hear(body, now).expect("a node has said it");
        while let Some(lost) = node.claims.next_lost() {
            node.connections.remove(&lost.connection);
        }
    }

    /// Delivers all that is said, in its order, until nothing more is said within a while.
    fn settle(&mut self) {
        let before = self.messages;
        for _ in 0..4 {
            self.time += 6_000;
            loop {
                let mut is_quiet = true;
                for place in 0..self.nodes.len() {
                    while self.say(place, &mut |_| true) {
                        is_quiet = false;
                    }
                    for body in std::mem::take(&mut self.nodes[place].arriving) {
                        is_quiet = false;
                        self.hear(place, &body);
                    }
                }
                if is_quiet {
                    break;
                }
                assert!(self.messages < before + 1_000, "they come to an end");
            }
        }
    }

    /// Where a client is connected.
    fn holders(&self, number: usize) -> Vec<usize> {
        let holds = |place: &usize| self.nodes[*place].connections.values().any(|&known| known == number);
        (0..self.nodes.len()).filter(holds).collect()
    }

    fn check(&self) {
        for node in &self.nodes {
            let known: Vec<_> = node.claims.connections.keys().collect();
            assert_eq!(known, node.connections.keys().collect::<Vec<_>>());
            assert_eq!(node.claims.clients.len(), node.connections.len());
            assert!(node.claims.unsaid.iter().all(|client| node.claims.clients.contains_key(client)));
        }
    }

    /// Whatever may happen, for a while. Returns where each client has connected last, unless it has disconnected since.
    fn live(&mut self, random: &mut Random) -> [Option<(usize, ConnectionId)>; CLIENTS] {
        let mut last = [None; CLIENTS];
        for _ in 0..200 {
            let place = random.below(self.nodes.len());
            match random.below(9) {
                0 | 1 => {
                    let number = random.below(CLIENTS);
                    last[number] = Some((place, self.connect(place, number)));
                }
                2 => {
                    let number = random.below(CLIENTS);
                    if let Some((place, connection)) = last[number].take_if(|_| random.once_in(3)) {
                        self.disconnect(place, connection);
                    }
                }
                3 => self.time += [1, 10, 1_000, 6_000][random.below(4)],
                4 => self.nodes[place].claims.begin_again(),
                5 | 6 => {
                    self.say(place, &mut |_| !random.once_in(4));
                }
                _ => self.deliver_one(place, random),
            }
            self.check();
        }
        last
    }

    /// One of the messages that are on their way arrives, is lost, or arrives and will do so once more.
    fn deliver_one(&mut self, place: usize, random: &mut Random) {
        let arriving = &mut self.nodes[place].arriving;
        if arriving.is_empty() {
            return;
        }
        let at = if random.once_in(2) { 0 } else { random.below(arriving.len()) };
        let body = match random.below(8) {
            0 => return drop(arriving.remove(at)),
            1 => arriving[at].clone(),
            _ => arriving.remove(at),
        };
        self.hear(place, &body);
    }
}

/// The clocks of all nodes are the same: the last CONNECT wins.
#[test]
fn whatever_happens_on_the_way_the_last_connect_wins() {
    for seed in 1..2_000 {
        let mut random = Random(seed);
        let mut world = World::new(&vec![0; 2 + random.below(2)]);
        let last = world.live(&mut random);
        world.settle();
        for (number, last) in last.into_iter().enumerate() {
            let expected: Vec<usize> = last.map(|(place, _)| place).into_iter().collect();
            // Older connections that no one has claimed against stay until their clients end them.
            let found = world.holders(number);
            assert!(
                found == expected || last.is_none() && found.len() <= 1,
                "{seed}: {found:?} {expected:?}"
            );
        }
    }
}

/// Their clocks are wrong: each client is at one node at most, and one that connects when all was heard is where it has
/// connected last.
#[test]
fn with_wrong_clocks_a_client_is_at_one_node() {
    for seed in 1..2_000 {
        let mut random = Random(seed);
        let ahead: Vec<u64> =
            (0..2 + random.below(2)).map(|_| [0, 1, 50, HOUR, 1_000 * HOUR][random.below(5)]).collect();
        let mut world = World::new(&ahead);
        world.live(&mut random);
        world.settle();
        for number in 0..CLIENTS {
            let found = world.holders(number);
            assert!(found.len() <= 1, "{seed}: {found:?}");
            let place = random.below(ahead.len());
            world.connect(place, number);
            world.settle();
            assert_eq!(world.holders(number), [place], "{seed}");
        }
    }
}

/// The clock of the second node is an hour slow, or a hundred days fast, and the two have not heard of each other before.
#[test]
fn a_slow_clock_refuses_no_later_connect() {
    for ahead in [[HOUR, 0], [0, HOUR], [0, 2_400 * HOUR], [WALL, 0]] {
        for (first, second) in [(0, 1), (1, 0)] {
            let mut world = World::new(&ahead);
            world.connect(first, 0);
            world.time += 20;
            world.connect(second, 0);
            world.settle();
            assert_eq!(world.holders(0), [second], "{ahead:?}");
            world.time += 5;
            world.connect(first, 0);
            world.settle();
            assert_eq!(world.holders(0), [first], "{ahead:?}");
        }
    }
}

#[test]
fn of_two_at_the_same_time_the_greater_incarnation_wins() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut world = World::new(&[0, 0]);
        world.connect(first, 0);
        world.time -= 1;
        world.connect(second, 0);
        world.settle();
        assert_eq!(world.holders(0), [0]);
    }
}

/// An impossible time is refused, and one that is far ahead does not stop the nodes from taking clients over.
#[test]
fn a_time_far_ahead_does_no_lasting_harm() {
    let mut world = World::new(&[0, 3, 9]);
    world.settle();
    let mut body = Vec::new();
    for time in [u64::MAX, u64::MAX / 2] {
        Head { incarnation: 99, number: 1, time }.write(&mut body);
        let now = world.nodes[0].now(world.time);
        assert_eq!(world.nodes[0].claims.hear(&body, now), Err(Refused::TooFar(TooFar)));
    }
    let year = 365 * 24 * HOUR;
    for place in 0..2 {
        Head { incarnation: 99, number: 1, time: WALL + 150 * year }.write(&mut body);
        world.hear(place, &body);
    }
    for place in [0, 1, 2, 0, 2, 1] {
        world.connect(place, 0);
        world.time += 20;
        world.settle();
        assert_eq!(world.holders(0), [place]);
    }
}

/// A node that was frozen finds on waking that its client has gone to another one, or has come from there since.
#[test]
fn a_frozen_node_finds_out_on_waking() {
    for comes_back in [false, true] {
        let mut world = World::new(&[0, 0]);
        world.connect(0, 0);
        world.settle();
        world.connect(1, 0);
        while world.say(1, &mut |place| place == 0) {}
        world.time += HOUR;
        if comes_back {
            // Before it has read what has come in the meantime.
            world.connect(0, 0);
        }
        world.settle();
        assert_eq!(world.holders(0), [usize::from(!comes_back)]);
    }
}

/// Nothing tells the nodes that what one of them has said was lost, except the number of a later message.
#[test]
fn what_was_lost_is_found_out_by_the_next_message() {
    let mut world = World::new(&[0, 0, 0]);
    world.settle();
    world.connect(0, 0);
    world.connect(0, 1);
    while world.say(0, &mut |_| true) {}
    (0..3).for_each(|place| {
        for body in std::mem::take(&mut world.nodes[place].arriving) {
            world.hear(place, &body);
        }
    });
    for place in [1, 2] {
        world.connect(place, place - 1);
        while world.say(place, &mut |_| false) {}
    }
    assert_eq!((world.holders(0), world.holders(1)), (vec![0, 1], vec![0, 2]));
    world.settle();
    assert_eq!((world.holders(0), world.holders(1)), (vec![1], vec![2]));
}

/// The same before the nodes have heard anything of each other.
#[test]
fn what_was_lost_before_the_first_message_is_found_out_as_well() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut world = World::new(&[0, 0]);
        world.connect(first, 0);
        world.connect(second, 0);
        (0..2).for_each(|place| while world.say(place, &mut |_| false) {});
        assert_eq!(world.holders(0), [0, 1]);
        world.settle();
        assert_eq!(world.holders(0), [second]);
    }
}

/// Ten thousand clients at once are claimed in pieces, each once.
#[test]
fn many_clients_are_claimed_in_pieces() {
    let now = Time::from_milliseconds(5);
    let mut claims = Claims::new(1, Duration::from_milliseconds(WALL), now);
    let before = memory::held();
    for number in 0..10_000 {
        claims.connected(client(number), ConnectionId::of(u32::try_from(number).unwrap(), 0), now);
    }
    let (mut other, mut body, mut count) = (Claims::new(2, Duration::ZERO, now), Vec::new(), 0);
    for is_again in [false, true] {
        while claims.write_next(usize::MAX, now, &mut body) {
            assert!(body.len() <= HEAD_LENGTH + ENTRIES_MAXIMUM * ENTRY_LENGTH);
            count += other.hear(&body, now).expect("a node has said it");
        }
        assert_eq!(count, if is_again { 20_000 } else { 10_000 });
        claims.begin_again();
    }
    drop(other);
    let held = memory::held() - before;
    assert!((60 * 10_000..300 * 10_000).contains(&held), "{held}");
    for number in 0..10_000 {
        claims.ended(ConnectionId::of(number, 0));
    }
    assert!(memory::held() - before < 10_000, "the others that it knows are left");
}

/// While messages are lost all the time, all clients are claimed again only now and then.
#[test]
fn lost_messages_do_not_lead_to_ever_more() {
    let mut world = World::new(&[0, 0, 0]);
    for number in 0..100 {
        world.connect(number % 3, number);
    }
    world.messages = 0;
    for second in 0..60 {
        world.time += 1_000;
        for place in 0..3 {
            let mut said = 0;
            while world.say(place, &mut |other| (place + other + said) % 2 == 0) {
                said += 1;
            }
        }
        for place in 0..3 {
            for body in std::mem::take(&mut world.nodes[place].arriving) {
                world.hear(place, &body);
            }
        }
        // Each node says its 34 clients, two in a message, every five seconds.
        let most = (second / 5 + 2) * 3 * 20;
        assert!(world.messages <= most, "{} messages in {second} seconds", world.messages);
    }
}

#[test]
fn the_same_identifier_of_another_user_is_another_client() {
    let hashes = [
        ClientHash::of("a", None),
        ClientHash::of("a", Some("")),
        ClientHash::of("a", Some("b")),
        ClientHash::of("ab", None),
        ClientHash::of("ab", Some("")),
        ClientHash::of("", Some("ab")),
        ClientHash::of("a\u{1}b", None),
    ];
    let different: BTreeSet<ClientHash> = hashes.into();
    assert_eq!(different.len(), hashes.len());
    assert_eq!(ClientHash::of("a", Some("b")), hashes[2]);
}

#[test]
fn a_node_does_not_hear_itself() {
    let now = Time::from_milliseconds(5);
    let mut claims = Claims::new(1, Duration::from_milliseconds(WALL), now);
    claims.connected(client(0), ConnectionId::of(0, 0), now);
    let mut body = Vec::new();
    Head { incarnation: 1, number: 1, time: WALL + HOUR }.write(&mut body);
    layout::write_entry(client(0), Duration::ZERO, &mut body);
    assert_eq!(claims.hear(&body, now), Ok(0));
    assert_eq!(claims.next_lost(), None);
}
