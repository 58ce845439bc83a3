//! What needs room on disk, and what frees some. A full disk is no dead end as long as what frees room is always
//! accepted.

use super::Journal;
use super::record::Record;

/// How much room there is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None: batches wait for room, perhaps for ever.
    Gone,
    /// Enough for what frees more of it, and for small things.
    Scarce,
    /// Enough for everything.
    Enough,
}

/// How much room on disk something needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It frees room, changes what is there in its place, or is a step of what frees room. It is never refused.
    Nothing,
    /// It takes up to [`Need::LITTLE_BYTES`], no more than once for each session that there is.
    Little,
    /// It takes room, and nothing bounds how often. So it is checked before anything takes effect.
    Room,
}

impl Need {
    /// The most bytes that count as little: enough for a name and a short Will.
    pub const LITTLE_BYTES: usize = 1024;

    /// The need of this many bytes in the place of others, in a row that a session has once.
    pub const fn of_row(bytes: usize, before: usize) -> Self {
        match bytes {
            _ if bytes <= before => Self::Nothing,
            0..=Self::LITTLE_BYTES => Self::Little,
            _ => Self::Room,
        }
    }
}

impl Room {
    /// Whether something with this need is accepted.
    pub const fn allows(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Little => !matches!(self, Self::Gone),
            Need::Room => matches!(self, Self::Enough),
        }
    }
}

impl Journal {
    /// Whether the store accepts new messages.
    pub const fn has_room(&self) -> bool {
        self.room.allows(Need::Room)
    }

    /// How much room there is in the store.
    pub const fn room(&self) -> Room {
        self.room
    }

    /// Sets how much room there is in the store from now on. Returns how much there was.
    pub const fn set_room(&mut self, room: Room) -> Room {
        std::mem::replace(&mut self.room, room)
    }
}

impl Record {
    /// The need of a record, where the store has nothing in its place. This is the list of all that is written, and of
    /// the places that check for room before they make a record. The broker does not ask for it: tests that take the
    /// room away and look at what is written all the same hold those places to it.
    pub fn need(&self) -> Need {
        match self {
            // There are as many as the settings have.
            Self::Listener(..) => Need::Nothing,
            // Checked at CONNECT, for a new session and for one that comes back with more than it had.
            Self::Session(_) => Need::Room,
            // Checked at SUBSCRIBE.
            Self::Subscribed(..) => Need::Room,
            // Checked at PUBLISH, and when a Will is due, a QoS is raised, a retained message goes to a subscription,
            // or a message moves from one member of a group to another. What clears a topic takes about as much as it
            // frees.
            Self::Message(stored) if stored.message.publication().payload.is_empty() => Need::Nothing,
            Self::Message(_) => Need::Room,
            // Checked at PUBLISH.
            Self::Received(..) => Need::Room,
            // Checked at PUBLISH. A retained message of QoS 0, which is not acknowledged, waits for room.
            Self::Retained(_) => Need::Room,
            // A few bytes for each delivery within the window of a client, which are freed when its message is removed.
            Self::Delivery(..) | Self::Begun { .. } => Need::Nothing,
            Self::SessionEnded { .. }
            | Self::FormerEnded(_)
            | Self::Unsubscribed(..)
            | Self::Settled { .. }
            | Self::Released(..)
            | Self::Completed(..)
            | Self::Cleared(_) => Need::Nothing,
        }
    }
}
