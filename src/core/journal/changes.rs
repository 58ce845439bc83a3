//! Subscriptions that differ from those in the store. A later change replaces a waiting one, so a client that
//! subscribes to the same filter again and again causes one record per batch.

use std::collections::BTreeMap;

use super::ENTRY_BYTES;
use super::record::{Record, SessionNumber, StoredSubscription};
use crate::base::memory;
use crate::protocol::codec::QoS;

/// A subscription without its Topic Filter.
#[derive(Clone, Copy, Debug)]
struct Terms {
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    owes_retained: bool,
    identifier: u32,
}

/// The latest changes: the terms of a subscription, or `None` if it is gone.
#[derive(Debug, Default)]
pub(super) struct Changes {
    latest: BTreeMap<(SessionNumber, Box<str>), Option<Terms>>,
    filter_bytes: usize,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Notes a new or changed subscription.
    pub(super) fn subscribed(&mut self, session: SessionNumber, subscription: StoredSubscription) {
        let StoredSubscription { filter, qos, no_local, retain_as_published, identifier, owes_retained } =
            subscription;
        let terms = Terms { qos, no_local, retain_as_published, owes_retained, identifier };
        self.insert(session, filter, Some(terms));
    }

    /// Notes that a subscription is gone.
    pub(super) fn unsubscribed(&mut self, session: SessionNumber, filter: String) {
        self.insert(session, filter, None);
    }

    fn insert(&mut self, session: SessionNumber, filter: String, terms: Option<Terms>) {
        let bytes = memory::allocation(filter.len());
        if self.latest.insert((session, filter.into()), terms).is_none() {
            self.filter_bytes += bytes;
        }
    }

    /// Writes the changes as records, but only those of sessions that still exist. When a session ends, the store
    /// drops all of its subscriptions.
    pub(super) fn close(&mut self, is_there: impl Fn(SessionNumber) -> bool, records: &mut Vec<Record>) {
        self.filter_bytes = 0;
        let mut last = None;
        for ((session, filter), terms) in std::mem::take(&mut self.latest) {
            let (_, is_there) = match last {
                Some((known, is_there)) if known == session => (known, is_there),
                _ => *last.insert((session, is_there(session))),
            };
            if is_there {
                records.push(record(session, filter.into_string(), terms));
            }
        }
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        self.filter_bytes + self.latest.len() * ENTRY_BYTES
    }
}

fn record(session: SessionNumber, filter: String, terms: Option<Terms>) -> Record {
    let Some(Terms { qos, no_local, retain_as_published, owes_retained, identifier }) = terms else {
        return Record::Unsubscribed(session, filter);
    };
    let subscription =
        StoredSubscription { filter, qos, no_local, retain_as_published, identifier, owes_retained };
    Record::Subscribed(session, subscription)
}
