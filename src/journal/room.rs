//! What needs room on disk, and what makes some: a disk that is full is no dead end as long as what makes room is
//! always taken.

use super::Journal;
use super::record::Record;

/// How much room there is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None: batches wait for it, perhaps for ever.
    Gone,
    /// Enough for what makes more of it, and for what is little.
    Scarce,
    /// Enough for everything.
    Enough,
}

/// What something does to the room on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It makes room, changes what is there within its place, or is a step of what makes room: it is never refused.
    Nothing,
    /// It takes up to [`Need::LITTLE_BYTES`], no more than once for each session that there is.
    Little,
    /// It takes room, and nothing bounds how often: it is asked for before anything takes effect.
    Room,
}

impl Need {
    /// What little is, in bytes: a name and the Will of a device that is no more than a word.
    pub const LITTLE_BYTES: usize = 1024;

    /// The need of so many bytes in the place of others, in a row that a session has once.
    pub const fn of_row(bytes: usize, before: usize) -> Self {
        match bytes {
            _ if bytes <= before => Self::Nothing,
            0..=Self::LITTLE_BYTES => Self::Little,
            _ => Self::Room,
        }
    }
}

impl Room {
    /// Whether something with this need is taken.
    pub const fn allows(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Little => !matches!(self, Self::Gone),
            Need::Room => matches!(self, Self::Enough),
        }
    }
}

impl Journal {
    /// Whether the store takes new messages.
    pub const fn has_room(&self) -> bool {
        self.room.allows(Need::Room)
    }

    /// How much room there is in the store.
    pub const fn room(&self) -> Room {
        self.room
    }

    /// So much room there is in the store from now on; tells how much there was.
    pub const fn set_room(&mut self, room: Room) -> Room {
        std::mem::replace(&mut self.room, room)
    }
}

impl Record {
    /// The need of a record, where the store has nothing in its place. This is the list of all that is written; who
    /// makes a record that needs room has to ask [`Room::allows`] first.
    pub fn need(&self) -> Need {
        match self {
            // As many as the settings have.
            Self::Listener(..) => Need::Nothing,
            // A new session asks at CONNECT, as does one that comes back with more than it had.
            Self::Session(_) => Need::Room,
            // At SUBSCRIBE.
            Self::Subscribed(..) => Need::Room,
            // At PUBLISH, and when a Will is due, a QoS is raised, a retained message goes to a subscription, or a
            // message changes from one member of a group to another. What clears a topic takes about as much as it
            // makes free.
            Self::Message(stored) if stored.message.publication().payload.is_empty() => Need::Nothing,
            Self::Message(_) => Need::Room,
            // At PUBLISH.
            Self::Received(..) => Need::Room,
            // At PUBLISH; what nobody is promised waits for room.
            Self::Retained(_) => Need::Room,
            // A few bytes for each delivery within the window of a client, which end with a message that goes.
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
