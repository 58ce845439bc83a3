//! MQTT 5.0, chapters 3.15 and 4.12: extended authentication by AUTH, with a method of three words.

use brooklet::base::time::Time;
use brooklet::core::access::{AccessControl, Answer, Client, Exchange, Progress, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A client sends `knock`, is asked `who`, and answers who it is; `eve` is not accepted. A client that starts with its
/// name need not be asked.
#[derive(Debug)]
struct Knock {
    is_asked: bool,
}

impl Exchange for Knock {
    fn go_on(&mut self, data: &[u8], _: Time) -> Progress {
        match data {
            b"knock" if !self.is_asked => {
                self.is_asked = true;
                Progress::Challenge(b"who".to_vec())
            }
            b"ann" | b"bob" => {
                let user_name = std::str::from_utf8(data).expect("a name").into();
                Progress::Passed {
                    user_name,
                    data: if self.is_asked { b"come".to_vec() } else { Vec::new() },
                }
            }
            _ => Progress::Failed(ReasonCode::NotAuthorized, "nobody"),
        }
    }

    fn memory(&self) -> usize {
        0
    }
}

/// Supports the method `knock`, and accepts no client by password. Whether the Will `later` may be published is
/// decided later.
struct Porter;

impl AccessControl for Porter {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        match question {
            Question::Connect { .. } => Answer::Now(Verdict::Refused(ReasonCode::BadUserNameOrPassword)),
            Question::Publish { topic, .. } if topic.as_str() == "later" => Answer::Later,
            // The rights are those of the user who was authenticated.
            Question::Publish { .. } if client.user_name != Some("ann") => {
                Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized))
            }
            _ => Answer::Now(Verdict::Granted),
        }
    }

    fn begin(&mut self, _client: &Client<'_>, method: &str) -> Option<Box<dyn Exchange>> {
        (method == "knock").then(|| Box::new(Knock { is_asked: false }) as Box<dyn Exchange>)
    }
}

fn world() -> World {
    World::with(Limits::default(), Porter)
}

/// The properties of a packet that continues: method and data.
fn said(method: &str, data: &[u8]) -> Vec<u8> {
    [text_property(0x15, method), text_property(0x16, data)].concat()
}

fn auth(code: u8, properties: &[u8]) -> Vec<u8> {
    packet(0xF0, &[&[code][..], &variable_byte_integer(properties.len()), properties].concat())
}

fn connect(client_identifier: &str, data: &[u8]) -> Connect {
    Connect::new(V5, client_identifier).property(&said("knock", data))
}

/// A client that was accepted by the method as `user`.
fn let_in(world: &mut World, client_identifier: &str, user: &str) -> Peer {
    let peer = world.open();
    let asked = world.ask(peer, connect(client_identifier, b"knock").bytes());
    assert_eq!(asked, auth(0x18, &said("knock", b"who")));
    let connack = ConnAck::new(&world.ask(peer, auth(0x18, &said("knock", user.as_bytes()))));
    assert_eq!(connack.code, 0);
    peer
}

#[test]
fn mqtt5_4_12_0_1_other_method() {
    for method in ["KNOCK", "", "SCRAM-SHA-256"] {
        assert_refused(&mut world(), Connect::new(V5, "a").property(&said(method, b"ann")).bytes(), 0x8C);
    }
}

#[test]
fn mqtt5_4_12_0_2() {
    let mut world = world();
    let a = world.open();
    let asked = world.ask(a, connect("a", b"knock").bytes());
    assert_eq!((asked[0], asked[2]), (0xF0, 0x18));
    assert!(!world.is_closed(a));
}

/// No other packet may continue: the connection is closed without a packet.
#[test]
fn mqtt5_4_12_0_3() {
    let name = said("knock", b"ann");
    for bytes in [
        auth(0x19, &name),
        auth(0x00, &name),
        packet(0xF0, &[]),
        auth(0x18, &said("other", b"ann")),
        PINGREQ.into(),
        connect("a", b"knock").bytes(),
        Publish::new(V5, "t", b"m").bytes(),
    ] {
        let mut world = world();
        let b = let_in(&mut world, "b", "bob");
        subscribe_to(&mut world, b, "#", 0);
        let a = world.open();
        world.ask(a, connect("a", b"knock").bytes());
        world.send(a, &bytes);
        assert_eq!(world.take(a), [[0; 0]; 0], "{bytes:02x?}");
        assert!(world.is_closed(a), "{bytes:02x?}");
        assert_eq!(world.take(b), [[0; 0]; 0], "{bytes:02x?}");
    }
}

#[test]
fn mqtt5_3_1_2_30_disconnect() {
    let mut world = world();
    let a = world.open();
    world.ask(a, connect("a", b"knock").bytes());
    world.send(a, DISCONNECT);
    assert!(world.is_closed(a));
    assert_eq!(world.broker.census().sessions, 0);
}

/// Refused at once, or after a question; the session of that name stays with its owner.
#[test]
fn mqtt5_4_12_0_4_failed() {
    let mut world = world();
    let b = let_in(&mut world, "b", "ann");
    assert_refused(&mut world, connect("b", b"eve").bytes(), 0x87);
    let a = world.open();
    world.ask(a, connect("b", b"knock").bytes());
    let connack = ConnAck::new(&world.ask(a, auth(0x18, &said("knock", b"eve"))));
    assert_eq!(connack.code, 0x87);
    assert!(world.is_closed(a) && !world.is_closed(b));
}

#[test]
fn mqtt5_4_12_0_5() {
    let mut world = world();
    let a = world.open();
    let asked = world.ask(a, connect("a", b"knock").bytes());
    assert_eq!(asked, auth(0x18, &said("knock", b"who")));
    let connack = ConnAck::new(&world.ask(a, auth(0x18, &said("knock", b"ann"))));
    assert_eq!(connack.property(0x15), Some(&b"\0\x05knock"[..]));
    assert_eq!(connack.property(0x16), Some(&b"\0\x04come"[..]));
    let (_, connack) = greet(&mut world, &connect("b", b"bob"));
    assert_eq!(connack.property(0x15), Some(&b"\0\x05knock"[..]));
    assert_eq!(connack.property(0x16), None);
}

/// The method determines who the client is; a User Name in the CONNECT has to be the same.
#[test]
fn mqtt5_4_12_0_5_user_name() {
    let mut world = world();
    let (_, connack) = greet(&mut world, &connect("a", b"ann").user_name("ann"));
    assert_eq!(connack.code, 0);
    assert_refused(&mut world, connect("b", b"ann").user_name("bob").bytes(), 0x87);
    let a = let_in(&mut world, "c", "ann");
    assert_eq!(world.ask(a, Publish::new(V5, "t", b"").qos(1, 1).bytes())[..4], [0x40, 3, 0, 1]);
    let b = let_in(&mut world, "d", "bob");
    assert_eq!(world.ask(b, Publish::new(V5, "t", b"").qos(1, 1).bytes())[4], 0x87);
}

/// AUTH carries the method and its data, never more, and no more than fits.
#[test]
fn mqtt5_3_15_2_2() {
    let size = u32::try_from(auth(0x18, &said("knock", b"who")).len()).expect("a small size");
    for (size, is_served) in [(size, true), (size - 1, false)] {
        let mut world = world();
        let a = world.open();
        world.send(a, connect("a", b"knock").property(&u32_property(0x27, size)).bytes());
        let expected = if is_served { vec![auth(0x18, &said("knock", b"who"))] } else { Vec::new() };
        assert_eq!(world.take(a), expected);
        assert_eq!(world.is_closed(a), !is_served);
    }
}

#[test]
fn mqtt5_3_15_2_3() {
    let mut world = world();
    let a = let_in(&mut world, "a", "ann");
    let with_more = [said("knock", b"ann"), user_property("u", "v")].concat();
    assert_eq!(world.ask(a, auth(0x19, &with_more)), auth(0x00, &text_property(0x15, "knock")));
}

/// Everything else continues in the meantime, and the method can be repeated any number of times.
#[test]
fn mqtt5_4_12_1_1_again() {
    let mut world = world();
    let a = let_in(&mut world, "a", "ann");
    for _ in 0..3 {
        let asked = world.ask(a, auth(0x19, &said("knock", b"knock")));
        assert_eq!(asked, auth(0x18, &said("knock", b"who")));
        assert_eq!(world.ask(a, PINGREQ), PINGRESP);
        let done = world.ask(a, auth(0x18, &said("knock", b"ann")));
        assert_eq!(done, auth(0x00, &said("knock", b"come")));
    }
    for bytes in [
        auth(0x19, &said("other", b"ann")),
        auth(0x18, &said("knock", b"ann")),
        auth(0x00, &said("knock", b"")),
    ] {
        let a = let_in(&mut world, "a", "ann");
        assert_broken(&mut world, a, bytes, 0x82);
    }
    let a = let_in(&mut world, "a", "ann");
    world.ask(a, auth(0x19, &said("knock", b"knock")));
    assert_broken(&mut world, a, auth(0x19, &said("knock", b"knock")), 0x82);
}

#[test]
fn mqtt5_4_12_1_2_failed() {
    for name in ["eve", "bob"] {
        let mut world = world();
        let a = let_in(&mut world, "a", "ann");
        assert_broken(&mut world, a, auth(0x19, &said("knock", name.as_bytes())), 0x87);
        let a = let_in(&mut world, "a", "ann");
        world.ask(a, auth(0x19, &said("knock", b"knock")));
        assert_broken(&mut world, a, auth(0x18, &said("knock", name.as_bytes())), 0x87);
    }
}

/// A client that does not answer has no more time than for a CONNECT.
#[test]
fn mqtt5_4_12_0_2_silence() {
    let mut world = world();
    let a = world.open();
    world.ask(a, connect("a", b"knock").bytes());
    world.pass_seconds(11);
    assert!(world.is_closed(a));
}

/// The decision about the Will follows when the client is known, and may come later; packets after it wait.
#[test]
fn mqtt5_3_1_4_6_will_later() {
    for bytes in [vec![connect("a", b"ann")], vec![connect("a", b"knock")]] {
        let mut world = world();
        let a = world.open();
        let connect = bytes[0].clone().will("later", b"w", 0, false, &[]);
        world.send(a, connect.bytes());
        for packet in world.take(a) {
            assert_eq!(packet, auth(0x18, &said("knock", b"who")));
            world.send(a, [auth(0x18, &said("knock", b"ann")), PINGREQ.to_vec()].concat());
        }
        assert_eq!(world.take(a), [[0; 0]; 0]);
        world.decide(a, Verdict::Granted);
        assert_eq!(ConnAck::new(&world.take(a)[0]).code, 0);
    }
}
