//! An amount that many share, such as bytes of memory; what is too much is refused at once, not waited for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What there is to share; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    size: AtomicUsize,
    taken: AtomicUsize,
}

/// What somebody has of a budget; it is free again when this is dropped.
#[derive(Debug)]
pub struct Hold {
    of: Budget,
    amount: AtomicUsize,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {size} are in use")]
pub struct UsedUp {
    /// How much there is in all.
    pub size: usize,
}

impl Budget {
    /// A budget of that size.
    pub fn new(size: usize) -> Self {
        Self { shared: Arc::new(Shared { size: AtomicUsize::new(size), taken: AtomicUsize::new(0) }) }
    }

    /// How much there is in all.
    pub fn size(&self) -> usize {
        self.shared.size.load(Ordering::Relaxed)
    }

    /// Has another size from now on. Nobody loses what they hold.
    pub fn resize(&self, size: usize) {
        self.shared.size.store(size, Ordering::Relaxed);
    }

    /// How much is in use.
    pub fn in_use(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// A part of it, nothing at first.
    pub fn hold(&self) -> Hold {
        Hold { of: self.clone(), amount: AtomicUsize::new(0) }
    }
}

impl Hold {
    /// Takes more.
    ///
    /// # Errors
    /// [`UsedUp`] where there is less left than that; nothing is taken then.
    pub fn grow(&self, amount: usize) -> Result<(), UsedUp> {
        let size = self.of.size();
        let more = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= size);
        let taken = self.of.shared.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| UsedUp { size })?;
        self.amount.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.shared.taken.fetch_sub(*self.amount.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_dropped_is_there_for_others() {
        let budget = Budget::new(10);
        let (one, other) = (budget.hold(), budget.hold());
        one.grow(4).unwrap();
        one.grow(3).unwrap();
        assert_eq!(other.grow(4), Err(UsedUp { size: 10 }));
        assert_eq!(other.grow(usize::MAX), Err(UsedUp { size: 10 }));
        other.grow(3).unwrap();
        drop(one);
        assert_eq!(budget.in_use(), 3);
        other.grow(7).unwrap();
        budget.resize(11);
        other.grow(1).unwrap();
        drop(other);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn never_more_is_held_than_there_is() {
        let budget = Budget::new(100);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..10_000 {
                        let hold = budget.hold();
                        let _refused = hold.grow(round % 60);
                        assert!(budget.in_use() <= 100);
                    }
                });
            }
        });
        assert_eq!(budget.in_use(), 0);
    }
}
