//! A bounded number of operations at once; the rest are refused at once, not queued.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The door to something that can do only so much at a time; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    capacity: AtomicUsize,
    taken: AtomicUsize,
}

/// Proof of having been let in; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Places>,
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
        Self { places: Arc::new(Places { capacity: AtomicUsize::new(capacity), taken: AtomicUsize::new(0) }) }
    }

    /// A place, if one is free right now.
    pub fn try_enter(&self) -> Result<Permit, Overloaded> {
        let capacity = self.capacity();
        let enter = |taken: usize| (taken < capacity).then(|| taken + 1);
        match self.places.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => Ok(Permit { places: Arc::clone(&self.places) }),
            Err(_) => Err(Overloaded { capacity }),
        }
    }

    /// Has another number of places from now on. Nobody inside is put out: where there are more of them than places,
    /// nobody enters until enough have left.
    pub fn resize(&self, capacity: usize) {
        self.places.capacity.store(capacity, Ordering::Release);
    }

    /// How many places there are.
    pub fn capacity(&self) -> usize {
        self.places.capacity.load(Ordering::Acquire)
    }

    /// Whether no place is free right now.
    pub fn is_full(&self) -> bool {
        self.in_use() >= self.capacity()
    }

    /// How many places are taken.
    pub fn in_use(&self) -> usize {
        self.places.taken.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

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

    #[test]
    fn a_house_that_shrinks_puts_nobody_out() {
        let door = Admission::new(3);
        let mut inside: Vec<Permit> = (0..3).map(|_| door.try_enter().unwrap()).collect();
        door.resize(1);
        assert_eq!((door.in_use(), door.is_full()), (3, true));
        inside.truncate(1);
        assert_eq!(door.try_enter().unwrap_err().capacity, 1);
        inside.clear();
        let last = door.try_enter().unwrap();
        assert!(door.is_full());
        door.resize(2);
        door.try_enter().unwrap();
        drop(last);
        assert_eq!(door.in_use(), 0);
    }

    #[test]
    fn never_more_are_inside_than_there_are_places() {
        let door = Admission::new(4);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Ok(_inside) = door.try_enter() {
                            assert!(door.in_use() <= 4);
                        }
                    }
                });
            }
        });
        assert_eq!(door.in_use(), 0);
    }
}
