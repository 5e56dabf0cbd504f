//! A slot beside a value in which another module keeps something that belongs to it, such as an encoded form. The domain does
//! not know what is in it.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// A slot for one value of any type. It is filled once and never changed.
///
/// A clone begins empty: the owner of a clone may change the value beside it, and then what was kept is no longer true.
#[derive(Default)]
pub struct Extension(OnceLock<Box<dyn Any + Send + Sync>>);

impl Extension {
    /// Returns what is kept, and makes it first if the slot is empty. Of calls at the same time one makes it, and the others wait.
    /// None: something of another type is kept.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl Clone for Extension {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Extension(filled)" } else { "Extension(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_filled_once_and_a_clone_begins_empty() {
        let slot = Extension::default();
        assert_eq!(slot.get_or_init(|| "first"), Some(&"first"));
        assert_eq!(slot.get_or_init(|| -> &str { unreachable!("the slot is filled") }), Some(&"first"));
        assert_eq!(slot.get_or_init(|| 7), None, "it keeps a text");
        assert_eq!(format!("{slot:?} {:?}", slot.clone()), "Extension(filled) Extension(empty)");
        assert_eq!(slot.clone().get_or_init(|| 7), Some(&7));
    }
}
