//! Which changes need room on disk and which free some. A broker with a full disk can recover as long as changes that
//! free room are always accepted.

use super::Journal;
use super::record::Record;

/// How much room there is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None: batches have to wait for room, perhaps for ever.
    Gone,
    /// Enough for what frees more, and for small changes.
    Scarce,
    /// Enough for everything.
    Enough,
}

/// How much room on disk a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It frees room, replaces something of at least the same size, or is a step towards freeing room. It is never
    /// refused.
    Nothing,
    /// It takes up to [`Need::LITTLE_BYTES`], at most once per session.
    Little,
    /// It takes room, and nothing limits how often. So room is checked before anything takes effect.
    Room,
}

impl Need {
    /// The largest size that counts as little: enough for a name and a short Will.
    pub const LITTLE_BYTES: usize = 1024;

    /// Returns the need of replacing `before` bytes by `bytes`, in a row that each session has once.
    pub const fn of_row(bytes: usize, before: usize) -> Self {
        match bytes {
            _ if bytes <= before => Self::Nothing,
            0..=Self::LITTLE_BYTES => Self::Little,
            _ => Self::Room,
        }
    }
}

impl Room {
    /// Whether a change with this need is accepted.
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

    /// Sets how much room there is in the store. Returns the former value.
    pub const fn set_room(&mut self, room: Room) -> Room {
        std::mem::replace(&mut self.room, room)
    }
}

impl Record {
    /// Returns the need of a record that replaces nothing in the store. This lists everything that is persisted, and
    /// where room is checked before the record is made. The broker does not call it: tests take the room away, look
    /// at what is persisted all the same, and hold those places to this list.
    pub fn need(&self) -> Need {
        match self {
            // There are no more than in the settings.
            Self::Listener(..) => Need::Nothing,
            // The settings limit their number.
            Self::Owed(_) => Need::Nothing,
            // Checked at CONNECT, for a new session and for one that resumes with more than it had.
            Self::Session(_) => Need::Room,
            // Checked at SUBSCRIBE.
            Self::Subscribed(..) => Need::Room,
            // Checked at PUBLISH, and when a Will is due, a QoS is raised, a retained message goes to a subscription,
            // or a message moves to another member of a group. A message that clears a topic takes about as much as
            // it frees.
            Self::Message(stored) if stored.message.publication().payload.is_empty() => Need::Nothing,
            Self::Message(_) => Need::Room,
            // A few bytes once a second at most, beside a message.
            Self::Arrived { .. } => Need::Room,
            // Checked at PUBLISH.
            Self::Received(..) => Need::Room,
            // Checked at PUBLISH. A retained QoS 0 message, which is not acknowledged, waits for room instead.
            Self::Retained(_) => Need::Room,
            // A few bytes for each delivery in the client's window. They are freed when the message is removed.
            Self::Delivery(..) | Self::Begun { .. } => Need::Nothing,
            Self::SessionEnded { .. }
            | Self::FormerEnded(_)
            | Self::Unsubscribed(..)
            | Self::Settled { .. }
            | Self::Released(..)
            | Self::Completed(..)
            | Self::Cleared(_)
            | Self::Sent(_)
            | Self::NothingOwed(_) => Need::Nothing,
        }
    }
}
