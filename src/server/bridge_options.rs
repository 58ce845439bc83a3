//! What the settings of a bridge mean to the core: the limits of its queue, its rights, and what it forwards.

use std::rc::Rc;

use crate::bridge::topics::Topics;
use crate::core::limits::Limits;
use crate::core::listener::{ListenerOptions, QueueOptions};
use crate::settings::{self, QueueDrop, Security};

/// A bridge with a User Name has the rights of that user by the rules of the first listener. Without one no rules are
/// asked, as in mosquitto. Its state is a message of this broker, which no rule of a user has to mention.
pub(super) fn security_of(bridge: &settings::Bridge, common: Option<&Rc<Security>>) -> Rc<Security> {
    let rules = common.filter(|_| bridge.local.user_name.is_some());
    Rc::new(Security {
        allows_anonymous: true,
        access: rules.and_then(|security| security.access.clone()),
        checks_retain_source: rules.is_some_and(|security| security.checks_retain_source),
        own_topic: bridge.notifications.as_ref().map(|notifications| notifications.topic.clone()),
        ..Security::default()
    })
}

/// The options of the listener of a bridge: only the limits of the whole broker apply, except to its queue.
pub(super) fn options_of(bridge: &settings::Bridge) -> Rc<ListenerOptions> {
    let settings::BridgeQueue { length, drops, age, .. } = bridge.queue;
    let queue = QueueOptions { length, drops_oldest: drops == QueueDrop::Oldest, age };
    let options = ListenerOptions::within(&Limits::default());
    Rc::new(ListenerOptions { packet_size: usize::MAX, queue: Some(queue), ..options })
}

/// The Topic Filters of the messages that are retained in the other broker.
pub(super) fn retained_filters(bridge: &settings::Bridge) -> Vec<Box<str>> {
    if !bridge.remote.forwards_retain {
        return Vec::new();
    }
    let topics = Topics::new(&bridge.topics);
    let own = topics.wanted_here().iter().filter(|wanted| wanted.topic_filter().share_name().is_none());
    own.map(|wanted| wanted.filter.clone()).collect()
}
