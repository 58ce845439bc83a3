//! What must become durable, in records; and who waits for that.

mod record;

pub use record::{
    Batch, CopyForm, Fetch, MessageNumber, NextNumbers, Page, Recipient, Record, Restored, SessionNumber,
    StoredCopy, StoredDelivery, StoredMessage, StoredPresence, StoredSession, StoredSubscription, StoredWill,
};
