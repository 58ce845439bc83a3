//! Listeners by their names. In memory one is known by its place in the settings of this run, in the store by a number
//! that its name was given once and that no other name is ever given.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::StoreError;
use super::error::Outcome;
use super::tables::LISTENER;
use crate::core::listener::ListenerId;
use crate::settings::ListenerName;

/// Stands for a listener of which no name is known: what came in there is allowed what all listeners allow.
const UNKNOWN: i64 = -1;

/// So many former names are kept without a look at who speaks of them, which takes a while.
const FORMER_MAXIMUM: usize = 256;

/// The numbers that rows speak of; the text of a publisher begins with one.
const NAMED: &str = "
    SELECT listener FROM session
    UNION SELECT CAST(publisher AS INTEGER) FROM session WHERE publisher IS NOT NULL
    UNION SELECT CAST(publisher AS INTEGER) FROM msg WHERE publisher IS NOT NULL
    UNION SELECT CAST(publisher AS INTEGER) FROM retained WHERE publisher IS NOT NULL
";

/// What stands between the listener and the rest in the text of a publisher.
const PART: char = '\0';

/// All listeners that are or were, by their places in this run.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Vec<Known>);

#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// None until it is persisted.
    number: Option<i64>,
}

impl Listeners {
    /// Those of the settings, in their order, and then those that only the store knows.
    pub(super) fn read(connection: &Connection, present: &[ListenerName]) -> Outcome<Self> {
        let known = |name: &ListenerName| Known { name: name.name.clone(), number: None };
        let mut listeners = Self(present.iter().map(known).collect());
        listeners.number(connection)?;
        if listeners.0.len() > present.len() + FORMER_MAXIMUM {
            listeners.forget_former(present.len(), connection)?;
        }
        Ok(listeners)
    }

    /// Reads the numbers anew, of those that it has and of others.
    pub(super) fn number(&mut self, connection: &Connection) -> Outcome<()> {
        self.0.iter_mut().for_each(|known| known.number = None);
        let mut statement = connection.prepare(&LISTENER.select("", "ORDER BY id"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (number, name): (i64, String) = LISTENER.read(row, || Ok((row.get(0)?, row.get(1)?)))?;
            match self.0.iter_mut().find(|known| known.name == name) {
                Some(known) => known.number = Some(number),
                None => self.0.push(Known { name, number: Some(number) }),
            }
        }
        Ok(())
    }

    /// Forgets former names that no row speaks of.
    fn forget_former(&mut self, present: usize, connection: &Connection) -> Outcome<()> {
        let mut named = BTreeSet::<i64>::new();
        for number in connection.prepare(NAMED)?.query_map((), |row| row.get(0))? {
            named.insert(number?);
        }
        for known in self.0.split_off(present) {
            match known.number {
                Some(number) if !named.contains(&number) => {
                    connection.execute("DELETE FROM listener WHERE id = ?", [number])?;
                }
                _ => self.0.push(known),
            }
        }
        Ok(())
    }

    /// The names, by [`ListenerId`].
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|known| &*known.name)
    }

    /// Persists what has no number yet; `None` if all have one. Valid once the transaction is committed.
    pub(super) fn written<'a>(
        &self,
        new: impl Iterator<Item = (ListenerId, &'a str)>,
        connection: &Connection,
    ) -> Result<Option<Self>, StoreError> {
        let new: Vec<(ListenerId, &str)> = new.collect();
        if new.is_empty() && self.0.iter().all(|known| known.number.is_some()) {
            return Ok(None);
        }
        let mut listeners = self.clone();
        for (id, name) in new {
            let is_next = usize::from(id.0) == listeners.0.len();
            if is_next {
                listeners.0.push(Known { name: name.to_owned(), number: None });
            }
        }
        for known in listeners.0.iter_mut().filter(|known| known.number.is_none()) {
            // Its number is given here, and the sum covers it, too.
            connection
                .prepare_cached("INSERT INTO listener (name, sum) VALUES (?, 0)")?
                .execute([&known.name])?;
            let number = connection.last_insert_rowid();
            LISTENER.put(connection, params![number, known.name])?;
            known.number = Some(number);
        }
        Ok(Some(listeners))
    }

    /// The number of a listener.
    pub(super) fn number_of(&self, id: ListenerId) -> i64 {
        self.0.get(usize::from(id.0)).and_then(|known| known.number).unwrap_or(UNKNOWN)
    }

    /// The listener with a number.
    pub(super) fn find(&self, number: i64) -> ListenerId {
        let place = self.0.iter().position(|known| known.number == Some(number));
        place.and_then(|place| u16::try_from(place).ok()).map_or(ListenerId::UNKNOWN, ListenerId)
    }

    /// The publisher of a message as it is persisted, with the number in place of the listener.
    pub(super) fn publisher_written<'a>(&self, publisher: &'a str) -> Cow<'a, str> {
        let number = |text: &str| text.parse().map(|id| self.number_of(ListenerId(id)));
        replaced(publisher, |text| number(text).unwrap_or(UNKNOWN).to_string())
    }

    /// Who published a message, as it is in memory.
    pub(super) fn publisher_read<'a>(&self, publisher: &'a str) -> Cow<'a, str> {
        replaced(publisher, |text| {
            text.parse().map_or(ListenerId::UNKNOWN, |number| self.find(number)).0.to_string()
        })
    }
}

/// A text that names a listener first, with another one in its place.
fn replaced(text: &str, other: impl FnOnce(&str) -> String) -> Cow<'_, str> {
    let Some((listener, rest)) = text.split_once(PART) else { return text.into() };
    let other = other(listener);
    if other == listener { text.into() } else { format!("{other}{PART}{rest}").into() }
}
