//! A bounded number of operations at once; the rest are refused at once, not queued.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The door to something that can do only so much at a time; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    capacity: usize,
}

/// Proof of having been let in; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _place: OwnedSemaphorePermit,
}

/// Every place is taken.
#[derive(Debug, thiserror::Error)]
#[error("all {capacity} places are taken")]
pub struct Overloaded {
    /// How many places there are.
    pub capacity: usize,
}

impl Admission {
    /// A door with `capacity` places.
    pub fn new(capacity: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(capacity)), capacity }
    }

    /// A place, if one is free right now.
    pub fn try_enter(&self) -> Result<Permit, Overloaded> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Permit { _place: place }),
            Err(_) => Err(Overloaded { capacity: self.capacity }),
        }
    }

    /// Whether no place is free right now.
    pub fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// How many places there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many places are taken.
    pub fn in_use(&self) -> usize {
        self.capacity - self.places.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_house_refuses_and_a_leaver_makes_room() {
        let door = Admission::new(1);
        let inside = door.try_enter().unwrap();
        assert_eq!((door.in_use(), door.is_full()), (1, true));
        assert_eq!(door.try_enter().unwrap_err().capacity, 1);
        drop(inside);
        assert!(!door.is_full());
        door.try_enter().unwrap();
    }
}
