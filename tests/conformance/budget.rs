//! What is still done while the memory budget is used up.

use brooklet::base::memory;
use brooklet::core::limits::Limits;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::World;

#[test]
fn small_messages_of_qos_0_have_their_way_at_the_budget() {
    let mut world = World::new();
    let peer = subscriber(&mut world, "peer", "t", 0);
    let publisher = client(&mut world, "publisher");
    let message = |length: usize| Publish::new(V5, "t", &vec![b'm'; length]).bytes();
    world.send(publisher, Publish::new(V5, "kept", &[b'k'; 1_000_000]).retain().bytes());
    world.send(publisher, message(200));
    assert_eq!(world.take(peer).len(), 1);
    world.broker.set_limits(Limits { memory: Some(memory::held()), ..Limits::default() });
    for (length, is_sent) in [(200, true), (2_000, false), (1, true)] {
        world.send(publisher, message(length));
        assert_eq!(world.take(peer).len(), usize::from(is_sent), "{length} bytes");
    }
    // All small messages share a little room; what is larger gets none.
    world.broker.set_limits(Limits { memory: Some(memory::held() / 2), ..Limits::default() });
    world.send(publisher, message(1));
    assert_eq!(world.take(peer).len(), 0);
    assert_eq!(world.broker.statistics().dropped, 2);
}
