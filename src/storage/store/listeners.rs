//! Listeners by their names. In memory a listener is known by its position in the settings of this run. In the store
//! it is known by a number that is given to its name once and never to another name.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::StoreError;
use super::error::Outcome;
use super::tables::LISTENER;
use crate::core::listener::ListenerId;
use crate::settings::ListenerName;

/// Stands for a listener whose name is unknown. Its clients are allowed what all listeners allow.
const UNKNOWN: i64 = -1;

/// Former names to keep without checking whether rows still refer to them, as the check takes a while.
const FORMER_MAXIMUM: usize = 256;

/// Selects the numbers that rows refer to. The text of a publisher begins with such a number.
const NAMED: &str = "
    SELECT listener FROM session
    UNION SELECT CAST(publisher AS INTEGER) FROM session WHERE publisher IS NOT NULL
    UNION SELECT CAST(publisher AS INTEGER) FROM msg WHERE publisher IS NOT NULL
    UNION SELECT CAST(publisher AS INTEGER) FROM retained WHERE publisher IS NOT NULL
";

/// Separates the listener from the rest in the text of a publisher.
const PART: char = '\0';

/// All present and former listeners. The position in the list is the [`ListenerId`] of this run.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Vec<Known>);

#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// `None` until it is persisted.
    number: Option<i64>,
}

impl Listeners {
    /// Reads the listeners: first those of the settings, in their order, then those that only the store knows.
    pub(super) fn read(connection: &Connection, present: &[ListenerName]) -> Outcome<Self> {
        let known = |name: &ListenerName| Known { name: name.name.clone(), number: None };
        let mut listeners = Self(present.iter().map(known).collect());
        listeners.number(connection)?;
        if listeners.0.len() > present.len() + FORMER_MAXIMUM {
            listeners.forget_former(present.len(), connection)?;
        }
        Ok(listeners)
    }

    /// Reads all numbers anew, and appends the names that are not in the list yet.
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

    /// Removes former names that no row refers to.
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

    /// The names, in the order of [`ListenerId`].
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|known| &*known.name)
    }

    /// Persists listeners that have no number yet. Returns the new list, which is valid once the transaction is
    /// committed, or
    /// `None` if all have a number.
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
            // This assigns the number. The row is then replaced, because its checksum covers the number, too.
            connection
                .prepare_cached("INSERT INTO listener (name, sum) VALUES (?, 0)")?
                .execute([&known.name])?;
            let number = connection.last_insert_rowid();
            LISTENER.put(connection, params![number, known.name])?;
            known.number = Some(number);
        }
        Ok(Some(listeners))
    }

    /// Returns the number of a listener.
    pub(super) fn number_of(&self, id: ListenerId) -> i64 {
        self.0.get(usize::from(id.0)).and_then(|known| known.number).unwrap_or(UNKNOWN)
    }

    /// Returns the listener that has a number.
    pub(super) fn find(&self, number: i64) -> ListenerId {
        let place = self.0.iter().position(|known| known.number == Some(number));
        place.and_then(|place| u16::try_from(place).ok()).map_or(ListenerId::UNKNOWN, ListenerId)
    }

    /// Converts a publisher from memory for the store, where a number takes the place of the [`ListenerId`].
    pub(super) fn publisher_written<'a>(&self, publisher: &'a str) -> Cow<'a, str> {
        let number = |text: &str| text.parse().map(|id| self.number_of(ListenerId(id)));
        replaced(publisher, |text| number(text).unwrap_or(UNKNOWN).to_string())
    }

    /// Converts a publisher from the store for memory.
    pub(super) fn publisher_read<'a>(&self, publisher: &'a str) -> Cow<'a, str> {
        replaced(publisher, |text| {
            text.parse().map_or(ListenerId::UNKNOWN, |number| self.find(number)).0.to_string()
        })
    }
}

/// Replaces the listener at the beginning of a publisher's text.
fn replaced(text: &str, other: impl FnOnce(&str) -> String) -> Cow<'_, str> {
    let Some((listener, rest)) = text.split_once(PART) else { return text.into() };
    let other = other(listener);
    if other == listener { text.into() } else { format!("{other}{PART}{rest}").into() }
}
