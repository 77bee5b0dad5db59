//! How many things each of many may have under way at once; more are refused at once, not queued.
//!
//! Only those are remembered who have something under way, so the memory is bounded by what is under way in all.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What everybody has under way; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Shares<K: Hash + Eq> {
    under_way: Arc<Mutex<HashMap<K, usize>>>,
}

/// Proof of having been let in; the share is free again when it is dropped.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    of: Shares<K>,
    key: K,
}

impl<K: Hash + Eq> Default for Shares<K> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Lets a key begin one more thing, unless it has as many as `limit` under way.
    pub fn try_enter<Q>(&self, key: &Q, limit: usize) -> Option<Share<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if limit == 0 {
            return None;
        }
        let mut under_way = self.lock();
        match under_way.get_mut(key) {
            Some(count) if *count >= limit => return None,
            Some(count) => *count += 1,
            None => {
                under_way.insert(key.to_owned(), 1);
            }
        }
        drop(under_way);
        Some(Share { of: self.clone(), key: key.to_owned() })
    }
}

impl<K: Hash + Eq> Shares<K> {
    /// How many have something under way.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing panics while holding the lock.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut under_way = self.of.lock();
        if let Some(count) = under_way.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_that_has_its_share_keeps_nobody_else_out() {
        let shares = Shares::<String>::default();
        let held = [shares.try_enter("a", 2).unwrap(), shares.try_enter("a", 2).unwrap()];
        assert!(shares.try_enter("a", 2).is_none());
        let other = shares.try_enter("b", 2).unwrap();
        assert_eq!(shares.len(), 2);
        drop(held);
        let again = shares.try_enter("a", 1).unwrap();
        assert!(shares.try_enter("a", 1).is_none() && shares.try_enter("c", 0).is_none());
        drop((other, again));
        assert!(shares.is_empty());
    }

    #[test]
    fn nothing_is_left_behind() {
        let shares = Shares::<u32>::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        drop((shares.try_enter(&(round % 7), 3), shares.try_enter(&1, 2)));
                    }
                });
            }
        });
        assert!(shares.is_empty());
    }
}
