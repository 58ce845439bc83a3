use crate::wire::*;
use crate::world::World;

#[test]
fn smoke() {
    for level in [V31, V311, V5] {
        let mut world = World::new();
        let a = world.connect(Connect::new(level, "a").bytes());
        let b = world.connect(Connect::new(level, "b").bytes());
        let suback = world.ask(b, subscribe(level, 1, &[], &[("t/+", 2), ("t/#", 1)]));
        assert_eq!(&suback[suback.len() - 2..], [2, 1]);
        world.send(a, Publish::new(level, "t/x", b"hi").qos(1, 5).bytes());
        assert_eq!(world.take_one(a), [0x40, 2, 0, 5]);
        let m = received(level, &world.take_one(b));
        assert_eq!(
            (m.qos, m.topic.as_str(), &*m.payload, m.packet_identifier),
            (1, "t/x", &b"hi"[..], Some(1))
        );
        world.send(b, acknowledge(0x40, 1));
        assert_eq!(world.ask(a, Publish::new(level, "t/x", b"hi").qos(2, 5).bytes()), [0x50, 2, 0, 5]);
        assert_eq!(world.ask(a, acknowledge(0x62, 5)), [0x70, 2, 0, 5]);
        let m = received(level, &world.take_one(b));
        assert_eq!((m.qos, m.packet_identifier), (2, Some(2)));
        assert_eq!(world.ask(b, acknowledge(0x50, 2)), [0x62, 2, 0, 2]);
        world.send(b, acknowledge(0x70, 2));
        assert_eq!(world.ask(b, PINGREQ), PINGRESP);
        world.send(a, DISCONNECT);
        world.cut(b);
        let census = world.broker.census();
        assert_eq!((census.connections, census.sessions, census.subscriptions, census.timers), (0, 0, 0, 0));
    }
}
