//! The classes of inboxes, and values that exist once per class. Code that treats all classes alike goes through
//! [`Class::ALL`] and [`PerClass`]: it needs no change when a class is added.

use std::fmt;
use std::ops::{Index, IndexMut};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The class of an inbox: a user has one inbox of each class, with its own numbers and its own window.
///
/// The order of the variants is that of the database's enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Messages of direct chats and groups.
    #[default]
    Chat,
    /// Urgent events.
    Alert,
    /// All other events, those of feeds.
    Event,
}

impl Class {
    /// All classes, in the order in which they are drained.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Alert, Self::Event];

    /// The class as the wire and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Alert => "alert",
            Self::Event => "event",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PerClass<T> {
    /// The value of [`Class::Chat`].
    pub chat: T,
    /// The value of [`Class::Alert`].
    pub alert: T,
    /// The value of [`Class::Event`].
    pub event: T,
}

impl<T> PerClass<T> {
    /// Makes each value from its class, in the order of [`Class::ALL`].
    pub fn from_fn(mut make: impl FnMut(Class) -> T) -> Self {
        Self { chat: make(Class::Chat), alert: make(Class::Alert), event: make(Class::Event) }
    }

    /// Turns each value into another, in the order of [`Class::ALL`].
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerClass<U> {
        PerClass { chat: change(self.chat), alert: change(self.alert), event: change(self.event) }
    }

    /// References to the values.
    pub const fn as_ref(&self) -> PerClass<&T> {
        PerClass { chat: &self.chat, alert: &self.alert, event: &self.event }
    }

    /// References to the values, to change them.
    pub const fn as_mut(&mut self) -> PerClass<&mut T> {
        PerClass { chat: &mut self.chat, alert: &mut self.alert, event: &mut self.event }
    }

    /// The classes with their values, in the order of [`Class::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Class, &T)> {
        self.as_ref().into_iter()
    }

    /// The values alone, in the order of [`Class::ALL`].
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    /// The values alone, to change them, in the order of [`Class::ALL`].
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.as_mut().into_iter().map(|(_, value)| value)
    }
}

impl<T> Index<Class> for PerClass<T> {
    type Output = T;
    fn index(&self, class: Class) -> &T {
        match class {
            Class::Chat => &self.chat,
            Class::Alert => &self.alert,
            Class::Event => &self.event,
        }
    }
}

impl<T> IndexMut<Class> for PerClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Chat => &mut self.chat,
            Class::Alert => &mut self.alert,
            Class::Event => &mut self.event,
        }
    }
}

impl<T> IntoIterator for PerClass<T> {
    type Item = (Class, T);
    type IntoIter = std::array::IntoIter<(Class, T), { Class::ALL.len() }>;
    fn into_iter(self) -> Self::IntoIter {
        [(Class::Chat, self.chat), (Class::Alert, self.alert), (Class::Event, self.event)].into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_value_and_all_of_them_come_in_the_order_of_the_drain() {
        let mut names = PerClass::from_fn(Class::as_str);
        assert!(names.iter().map(|(class, name)| (class, *name)).eq(Class::ALL.map(|class| (class, class.as_str()))));
        assert!(Class::ALL.is_sorted(), "the drain's order is that of the enum");
        for class in Class::ALL {
            assert_eq!(names[class], class.as_str());
            names[class] = "changed";
            let changed: Vec<_> = names.iter().filter(|(_, name)| **name == "changed").map(|(class, _)| class).collect();
            assert_eq!(changed, [class]);
            names[class] = class.as_str();
        }
        names.values_mut().for_each(|name| *name = &name[1..]);
        let lengths: Vec<_> = names.map(str::len).into_iter().map(|(class, length)| class.as_str().len() - length).collect();
        assert_eq!(lengths, Class::ALL.map(|_| 1));
    }
}
