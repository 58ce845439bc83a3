//! The core under lists of operations, alone and next to another broker of its thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;

use super::*;
use crate::base::fuzzing::try_out;
use crate::base::memory::Stored;

#[test]
fn any_bytes_leave_the_core_consistent() {
    try_out("broker", 400, operate);
}

/// A broker counts the same memory next to another one, after each operation and until the end, whether the other is
/// called between its calls or within them. After each turn it is also checked that the count is true.
#[test]
#[expect(clippy::disallowed_methods, reason = "to be alone, a broker needs a thread of its own")]
fn two_brokers_of_one_thread_count_apart() {
    try_out("broker", 400, |data| {
        let (one, other) = data.split_at(data.len() / 2);
        let alone = |data: &[u8]| {
            let data = data.to_vec();
            let run = thread::spawn(move || {
                let mut run = Run::new(&data, || ());
                while run.step() {}
                run.counts
            });
            run.join().expect("it runs to the end")
        };
        assert_eq!(together(one, other, data), (alone(one), alone(other)));
    });
}

type Counts = Vec<(usize, Stored)>;

/// Runs two lists of operations in this thread. One of the brokers also acts within the calls of the other; the last
/// bytes of `order` tell which broker is next between calls.
fn together(one: &[u8], other: &[u8], order: &[u8]) -> (Counts, Counts) {
    assert_eq!(memory::held(), 0, "the count of this thread begins at zero");
    let inner = Rc::new(RefCell::new(Run::new(leaked(other), || ())));
    let within = Rc::clone(&inner);
    let mut outer = Run::new(leaked(one), move || {
        within.borrow_mut().step();
    });
    let mut order = order.iter().rev().cycle();
    while !(outer.input.is_empty() && inner.borrow().input.is_empty()) {
        let is_outer = order.next().is_some_and(|byte| byte % 2 == 1);
        if is_outer {
            outer.step()
        } else {
            inner.borrow_mut().step()
        };
        assert_eq!((memory::held(), memory::stored()), (0, Stored::default()), "outside of both");
    }
    let counts = outer.end();
    let inner = Rc::into_inner(inner).expect("the outer broker was dropped").into_inner();
    (counts, inner.end())
}

/// Returns bytes that live as long as an access control may.
fn leaked(bytes: &[u8]) -> &'static [u8] {
    bytes.to_vec().leak()
}

/// A broker under a list of operations.
struct Run<'a> {
    world: World,
    input: Input<'a>,
    /// What was counted after each operation.
    counts: Counts,
}

impl<'a> Run<'a> {
    /// `aside` is called within its calls.
    fn new(data: &'a [u8], aside: impl FnMut() + 'static) -> Self {
        let mut input = Input::new(data);
        let limits = limits(&mut input);
        let access = Interrupted { script: Script::new(&mut input), aside };
        Self { world: World::new(limits, access), input, counts: Vec::new() }
    }

    /// Does the next operation. Returns false if there is none.
    fn step(&mut self) -> bool {
        if self.input.is_empty() {
            return false;
        }
        self.world.step(&mut self.input);
        let stored = {
            let _entered = self.world.broker.account.enter();
            memory::stored()
        };
        self.counts.push((self.world.broker.held(), stored));
        true
    }

    /// Drops the broker and asserts that no memory is counted any longer. Returns the counts.
    fn end(self) -> Counts {
        let Self { world, counts, .. } = self;
        drop(world);
        assert_eq!((memory::held(), memory::stored()), (0, Stored::default()), "nothing is left");
        counts
    }
}

/// Does something else before each decision.
struct Interrupted<F> {
    script: Script,
    aside: F,
}

impl<F: FnMut()> AccessControl for Interrupted<F> {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        (self.aside)();
        self.script.ask(client, question)
    }
}
