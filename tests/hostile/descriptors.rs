//! No descriptor is left: connected clients are served, nothing spins, and new ones are accepted when some are free.

use std::time::Duration;

use crate::peer::Peer;
use crate::target::{SLACK, Target, now};
use crate::wire::{Connect, PINGREQ, PINGRESP, V311};

#[test]
fn running_out_of_descriptors_stops_newcomers_only() {
    let mut target = Target::with_descriptors(64);
    let mut settled = Peer::connect(target.address(), "settled");
    let mut crowd: Vec<Peer> = (0..100).map(|_| Peer::open(target.address())).collect();
    target.wait_for_line("Unable to accept a connection");
    // One more if the broker was given one beyond the limit.
    assert!(target.descriptors() >= 64, "every descriptor is in use");
    let (before, started) = (target.processor_time(), now());
    while started.elapsed() < Duration::from_secs(2) {
        target.serves();
        settled.send(&PINGREQ);
        assert_eq!(settled.packet(), PINGRESP);
        std::thread::sleep(Duration::from_millis(50));
    }
    // A broker that spins would take all of the two seconds that the machine has left for it.
    let spent = target.processor_time() - before;
    assert!(spent < Duration::from_millis(700), "{spent:?} of two seconds on the processor");
    assert_eq!(target.lines_with("Unable to accept").len(), 1, "said once, not in a loop");
    // A client that has to wait is accepted as soon as others leave.
    let mut last = crowd.pop().expect("a crowd");
    crowd.clear();
    last.send(&Connect::new(V311, "patient").bytes());
    assert_eq!(last.packet(), [0x20, 2, 0, 0]);
    last.disconnect();
    settled.disconnect();
    target.gives_back(SLACK);
    target
        .logged_at_most(2 * 102 + 3, "one line for each that comes and one for each that goes, one warning");
}
