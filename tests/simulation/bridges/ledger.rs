//! What was published, what was promised, and what has arrived at the subscriber of each broker.

use std::collections::BTreeMap;

use brooklet::protocol::codec::QoS;

use super::plan::{FAR, NEAR};

#[derive(Debug)]
pub struct Message {
    /// The broker where it was published.
    pub from: usize,
    pub publisher: usize,
    pub topic: String,
    /// Its topic in the other broker and its QoS on the bridge; `None` if no rule forwards it.
    pub away: Option<(String, QoS)>,
    pub qos: QoS,
    pub retain: bool,
    pub is_acknowledged: bool,
    /// Whether the bridge had a session for it when it was published, which no fault may end.
    pub is_promised: bool,
    /// Whether the other broker gets it once if its QoS there is 2.
    pub is_exact: bool,
    /// How many copies the subscriber of each broker has received.
    pub copies: [u64; 2],
}

/// How often something has happened that makes messages come again.
#[derive(Clone, Copy, Debug)]
pub struct Disturbances {
    pub crashes: [u64; 2],
    pub connects: u64,
    /// Whether messages may have come back.
    pub may_echo: bool,
}

#[derive(Debug)]
pub struct Ledger {
    pub messages: Vec<Message>,
    /// The highest QoS that the far broker supports.
    far_qos: QoS,
    /// The latest message that a subscriber has received, by broker, publisher, topic there and QoS as published.
    latest: BTreeMap<(usize, usize, String, QoS), usize>,
    pub crossed: u64,
}

impl Ledger {
    pub const fn new(far_qos: QoS) -> Self {
        Self { messages: Vec::new(), far_qos, latest: BTreeMap::new(), crossed: 0 }
    }

    /// A message is published. Returns its number.
    pub fn publish(&mut self, message: Message) -> u64 {
        self.messages.push(message);
        self.messages.len() as u64 - 1
    }

    fn message(&mut self, number: u64) -> &mut Message {
        &mut self.messages[usize::try_from(number).expect("it was given")]
    }

    pub fn acknowledge(&mut self, number: u64) {
        self.message(number).is_acknowledged = true;
    }

    /// The far broker has lost the session of the bridge: what waited in it is lost, and what is in flight to it may
    /// come again.
    pub fn lose_session(&mut self) {
        for message in &mut self.messages {
            message.is_exact = false;
            message.is_promised &= message.from == NEAR;
        }
    }

    /// The subscriber of a broker has received a message.
    pub fn arrive(&mut self, node: usize, topic: &str, payload: &[u8]) {
        let number = u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"));
        let known = usize::try_from(number).ok().and_then(|index| self.messages.get_mut(index));
        let message = known.unwrap_or_else(|| panic!("message {number} was not sent"));
        let expected = match &message.away {
            Some((away, _)) if message.from != node => away,
            _ => {
                assert_eq!(message.from, node, "message {number} was forwarded, {message:?}");
                &message.topic
            }
        };
        assert_eq!(topic, expected, "message {number}");
        message.copies[node] += 1;
        let is_first = message.copies[node] == 1;
        self.crossed += u64::from(is_first && message.from != node);
        // Retained messages may come again, and late.
        if is_first && !message.retain {
            let index = usize::try_from(number).expect("it is known");
            let of = (node, message.publisher, topic.to_owned(), message.qos);
            let before = self.latest.insert(of, index);
            assert!(before.is_none_or(|before| before < index), "message {number} came after {before:?}");
        }
    }

    /// Checks how often each message has come.
    pub fn check_copies(&self, disturbances: Disturbances) {
        let Disturbances { crashes, connects, may_echo } = disturbances;
        for (number, message) in self.messages.iter().enumerate() {
            let Message { from, qos, copies, .. } = message;
            let again = match qos {
                QoS::AtLeastOnce => crashes[*from],
                _ => 0,
            };
            assert!(may_echo || copies[*from] <= 1 + again, "message {number} has come back: {message:?}");
            let Some((_, qos)) = &message.away else { continue };
            let again = match qos {
                QoS::AtMostOnce => 0,
                QoS::ExactlyOnce if message.is_exact && self.far_qos == QoS::ExactlyOnce => 0,
                _ => crashes[NEAR] + crashes[FAR] + connects,
            };
            let retained = if message.retain { connects } else { 0 };
            let most = 1 + again + retained;
            assert!(copies[1 - *from] <= most, "message {number} has come too often: {message:?}");
        }
    }

    /// The messages that were promised to the other broker and have not come there.
    pub fn missing(&self, from: usize) -> Vec<usize> {
        let is_missing = |message: &Message| {
            let is_promised = message.is_promised && message.is_acknowledged && message.from == from;
            let has_qos =
                matches!(&message.away, Some((_, qos)) if (*qos).min(self.far_qos) != QoS::AtMostOnce);
            is_promised && has_qos && message.copies[1 - from] == 0
        };
        let numbered = self.messages.iter().enumerate();
        numbered.filter(|(_, message)| is_missing(message)).map(|(number, _)| number).collect()
    }

    /// The messages that the broker where they were published should have delivered and has not.
    pub fn missing_here(&self) -> Vec<usize> {
        let is_missing = |message: &Message| {
            message.is_acknowledged && message.qos != QoS::AtMostOnce && message.copies[message.from] == 0
        };
        let numbered = self.messages.iter().enumerate();
        numbered.filter(|(_, message)| is_missing(message)).map(|(number, _)| number).collect()
    }

    /// The latest messages that a queue of this length has to hold, if it drops the oldest.
    pub fn latest(&self, from: usize, length: usize) -> Vec<usize> {
        let numbered = self.messages.iter().enumerate().rev();
        let away = numbered.filter(|(_, message)| message.from == from && message.away.is_some());
        away.take(length).map(|(number, _)| number).collect()
    }
}
