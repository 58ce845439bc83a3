//! All links: each socket with its layers and what the poller has reported about it, and the lists that links are on.
//! The owner of a link takes its bytes; `reading.rs` and `writing.rs` decide which links are read and written in a
//! turn.

use std::collections::VecDeque;

use mio::Registry;

use super::READ_BYTES;
use super::dial::{Calls, World};
use super::link::{Asked, Link, Turn};
use crate::base::memory::{self, Counted, Shrinking};
use crate::base::time::Time;
use crate::core::slots::ConnectionId;

/// All links, and the buffers that they share.
pub(super) struct Links {
    /// The links of clients.
    pub(super) clients: Clients,
    /// Outgoing connections.
    pub(super) calls: Calls,
    /// Links whose layers have output of their own.
    pub(super) unflushed: Vec<ConnectionId>,
    /// Links that may have more to read, which the poller will not report again.
    pub(super) again: VecDeque<ConnectionId>,
    /// The same, of peers that have asked for little recently.
    pub(super) soon: VecDeque<ConnectionId>,
    /// Links of peers that seem to be silent, and how often each is still read before its silence is judged.
    pub(super) suspects: VecDeque<(ConnectionId, u8)>,
    /// Links whose peers have closed their side and that wait for their turn to be accepted.
    pub(super) leaving: Vec<ConnectionId>,
    /// Links whose sockets are unusable, and why.
    pub(super) dead: VecDeque<(ConnectionId, String)>,
    /// Links that were read in this turn; their answers are written before all other output.
    pub(super) answered: Vec<ConnectionId>,
    /// Links to be written, in the order in which they came to have output.
    pub(super) writing: VecDeque<ConnectionId>,
    /// A spare list for the core's next dirty connections.
    pub(super) dirty: Vec<ConnectionId>,
    /// Where bytes are read to first.
    pub(super) buffer: Box<[u8]>,
    /// How much of the buffer is used in this turn.
    pub(super) room: usize,
    /// Where the bytes of a read with TLS are decrypted to.
    pub(super) plaintext: Vec<u8>,
    /// Memory of the lists and buffers.
    counted: Counted,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            clients: Clients::default(),
            calls: Calls::default(),
            unflushed: Vec::new(),
            again: VecDeque::new(),
            soon: VecDeque::new(),
            suspects: VecDeque::new(),
            leaving: Vec::new(),
            dead: VecDeque::new(),
            answered: Vec::new(),
            writing: VecDeque::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            room: READ_BYTES,
            plaintext: Vec::new(),
            counted: Counted::default(),
        }
    }
}

impl Links {
    /// Whether some link needs work, whatever the poller reports.
    pub(super) fn are_busy(&self) -> bool {
        !(self.again.is_empty()
            && self.soon.is_empty()
            && self.suspects.is_empty()
            && self.writing.is_empty()
            && self.dead.is_empty())
    }

    /// How many links have been waiting to be read since an earlier turn.
    pub(super) fn waiting(&self) -> usize {
        self.suspects.len() + self.soon.len() + self.again.len()
    }

    /// Reads a link again after the core had paused it.
    pub(super) fn read_on(&mut self, id: ConnectionId) {
        if let Some(link) = self.clients.find(id)
            && link.turn == Turn::Paused
        {
            link.turn = Turn::Waiting(Asked::Much);
        }
        self.list(id);
    }

    /// Puts a link on the list of those that may have more to read.
    pub(super) fn list(&mut self, id: ConnectionId) {
        if let Some(link) = self.clients.find(id)
            && let Turn::Waiting(asked) = link.turn
        {
            link.turn = Turn::Listed;
            if asked == Asked::Little { self.soon.push_back(id) } else { self.again.push_back(id) }
        }
    }

    /// The outgoing connections, and the parts of the loop that they need.
    pub(super) fn outgoing<'a>(
        &'a mut self,
        registry: &'a Registry,
        now: Time,
    ) -> (&'a mut Calls, World<'a>) {
        let Self { calls, buffer, plaintext, .. } = self;
        (calls, World { registry, buffer, plaintext, now })
    }

    /// Updates the count of the memory that the lists and buffers take.
    pub(super) fn count(&mut self) {
        let links = self.clients.links.capacity() * size_of::<Option<Link>>();
        let lists = [
            self.unflushed.capacity(),
            self.again.capacity(),
            self.soon.capacity(),
            2 * self.suspects.capacity(),
            self.leaving.capacity(),
            self.writing.capacity(),
            self.answered.capacity(),
            self.dirty.capacity(),
        ];
        let lists = lists.into_iter().sum::<usize>() * size_of::<ConnectionId>();
        let dead = self.dead.capacity() * size_of::<(ConnectionId, String)>();
        let sizes = [links, self.calls.memory(), lists, dead, self.buffer.len(), self.plaintext.capacity()];
        self.counted.set(sizes.map(memory::allocation).iter().sum());
    }
}

/// The links of clients, by the index of their connection in the core.
#[derive(Default)]
pub(super) struct Clients {
    links: Vec<Option<Link>>,
    /// The number of open links.
    open: usize,
    shrinking: Shrinking,
}

impl Clients {
    /// The number of open links.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// The link of a connection.
    #[inline]
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(id.index())?.as_mut().filter(|link| link.is_of(id))
    }

    /// The link with this index, and its connection.
    #[inline]
    pub(super) fn at(&mut self, index: usize) -> Option<(ConnectionId, &mut Link)> {
        let link = self.links.get_mut(index)?.as_mut()?;
        Some((ConnectionId::of(u32::try_from(index).ok()?, link.generation()), link))
    }

    /// Stores the link of a connection.
    pub(super) fn insert(&mut self, id: ConnectionId, link: Link) {
        self.make_place(id.index());
        self.links[id.index()] = Some(link);
        self.open += 1;
    }

    /// Makes the list long enough for this index. Doubling it would take a large part of a small memory budget in one
    /// step.
    fn make_place(&mut self, index: usize) {
        let lacking = (index + 1).saturating_sub(self.links.len());
        if self.links.capacity() < index + 1 {
            self.links.reserve_exact(lacking.max(self.links.len() / 8));
        }
        self.links.resize_with(self.links.len() + lacking, || None);
    }

    /// Removes the link of a connection, and returns it.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Link> {
        let removed = self.links.get_mut(id.index())?.take_if(|link| link.is_of(id))?;
        self.open -= 1;
        if self.shrinking.is_due(self.open, self.links.capacity()) {
            let used = self.links.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            self.links.truncate(used);
            self.links.shrink_to_fit();
        }
        Some(removed)
    }
}
