//! What becomes of messages while the disk has no room for more.

use brooklet::limits::Limits;

use crate::durability::Kept;
use crate::wire::*;

#[test]
fn what_was_retained_just_before_the_disk_was_full_is_there_when_it_is_acknowledged() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"gone").retain().qos(1, 1).bytes());
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 1);
    // These wait while another batch is with the store, and then there is no more room.
    kept.world.send(peer, Publish::new(V5, "x", b"x").qos(2, 2).retain().bytes());
    kept.close();
    kept.world.send(peer, Publish::new(V5, "new", b"new").retain().qos(1, 3).bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"").retain().qos(1, 4).bytes());
    kept.world.send(peer, Publish::new(V5, "unpromised", b"0").retain().bytes());
    kept.has_room(false);
    kept.finish();
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 3, "all are acknowledged");
    assert_eq!(kept.crash().retained(), [b"new", &b"x"[..]], "so this is what a crash has to leave");
}

#[test]
fn what_is_not_retained_any_more_needs_no_room() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "a", b"").retain().bytes());
    kept.commit();
    assert!(kept.store.retained.is_empty());
    assert!(kept.world.broker.is_written_down());
}

#[test]
fn what_clears_a_topic_is_taken_without_room_and_told_to_all() {
    for level in [V311, V5] {
        for qos in 1..=2 {
            let mut kept = Kept::new();
            kept.leave_sleeper();
            let peer = kept.world.connect(Connect::new(level, "p").bytes());
            kept.world.send(peer, Publish::new(level, "t", b"old").retain().qos(1, 1).bytes());
            kept.commit();
            kept.has_room(false);
            kept.world.take(peer);
            kept.world.send(peer, Publish::new(level, "t", b"").retain().qos(qos, 2).bytes());
            kept.commit();
            let answer = kept.world.take_one(peer);
            let is_refused = level == V5 && answer.get(4).is_some_and(|&reason| reason >= 0x80);
            assert!(answer[0] >> 4 == 3 + qos && !is_refused, "{level} {qos}: {answer:02x?}");
            assert!(kept.store.retained.is_empty(), "{level} {qos}");
            let sleeper = kept.come_back("sleeper", false);
            kept.read();
            kept.commit();
            assert_eq!(kept.payloads(sleeper), [b"old".to_vec(), Vec::new()], "{level} {qos}");
            // A topic that has nothing to be cleared is like any other.
            kept.world.send(peer, Publish::new(V5, "t", b"").retain().qos(1, 3).bytes());
            assert!(level != V5 || kept.world.take_one(peer)[4] == 0x97, "{level} {qos}");
        }
    }
}

#[test]
fn an_end_does_not_wait_for_what_there_is_no_room_for() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    assert!(kept.world.broker.is_written_down(), "nothing more can be");
    kept.has_room(true);
    assert!(!kept.world.broker.is_written_down());
    kept.commit();
    assert!(kept.world.broker.is_written_down() && kept.store.retained.contains_key("a"));
}

#[test]
fn messages_of_qos_0_do_not_fill_what_is_left_of_the_disk() {
    let mut kept = Kept::with(Limits { queues_at_most_once: true, ..Limits::default() });
    kept.leave_sleeper();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "t", b"0").bytes());
    kept.world.pass_seconds(2);
    kept.commit();
    assert!(kept.store.messages.is_empty(), "there is no room for it");
    kept.has_room(true);
    kept.world.send(peer, Publish::new(V5, "t", b"1").bytes());
    kept.commit();
    assert_eq!(kept.store.messages.len(), 1);
}
