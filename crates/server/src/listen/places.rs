//! How many connections there may be at once, and which gives way when there is one too many.
//!
//! A house that is full of clients who do nothing would keep out those who want something, and the probes first of all.
//! So whoever comes is let in, and of the network that has most connections one is closed: first those that never asked
//! for anything, and of them the one that has been awaited longest. What is being worked on is never closed for another; where nothing else is there, the newcomer waits, and
//! not for long: working on a request has a time limit.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::life::Life;
use crate::forwarded::network;

/// The places of one listener; cloning is shallow.
#[derive(Clone, Default)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
}

/// How many places there are at the moment: settings may change while a listener runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Of them, those whose encryption is not agreed on yet.
    pub handshakes: usize,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by: HashMap<u64, Arc<Life>>,
}

/// A connection's place, free again when it is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Places {
    /// A place, if there is one or somebody can give way.
    pub(super) fn enter(&self, life: &Arc<Life>, bounds: Bounds) -> Option<Place> {
        let mut taken = self.lock();
        if life.is_in_handshake() {
            let in_handshake = taken.by.values().filter(|other| other.is_in_handshake()).count();
            if in_handshake >= bounds.handshakes {
                taken.make_way(Life::is_in_handshake);
            }
        }
        // More than one gives way where there are fewer places than there were.
        while taken.by.len() >= bounds.connections {
            if !taken.make_way(|_| true) {
                return None;
            }
        }
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, Arc::clone(life));
        Some(Place { places: self.clone(), number })
    }

    /// Closes a connection that nothing is being worked on for, if there is one.
    pub(super) fn make_way(&self) -> bool {
        self.lock().make_way(|_| true)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while holding the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Closes the connection that gives way among those that `may`; whether there was one.
    fn make_way(&mut self, may: impl Fn(&Life) -> bool) -> bool {
        let mut of_network: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for life in self.by.values() {
            *of_network.entry(life.address.map(network)).or_default() += 1;
        }
        let awaited = self.by.iter().filter(|(_, life)| may(life)).filter_map(|(number, life)| {
            let since = life.awaited_since()?;
            let count = of_network.get(&life.address.map(network)).copied().unwrap_or_default();
            Some((*number, (count, !life.has_asked(), std::cmp::Reverse((since, *number)))))
        });
        let Some((number, _)) = awaited.max_by_key(|(_, rank)| *rank) else { return false };
        if let Some(life) = self.by.remove(&number) {
            life.end();
            super::count_ended("gave_way");
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Places with fixed bounds.
    struct House(Places, Bounds);

    impl House {
        fn new(connections: usize, handshakes: usize) -> Self {
            Self(Places::default(), Bounds { connections, handshakes })
        }

        fn enter(&self, life: &Arc<Life>) -> Option<Place> {
            self.0.enter(life, self.1)
        }
    }

    fn life(address: &str) -> Arc<Life> {
        Life::new(Some(address.parse().unwrap()), false)
    }

    fn has_ended(life: &Life) -> bool {
        life.ended().now_or_never().is_some()
    }

    #[test]
    fn the_longest_awaited_gives_way() {
        let places = House::new(2, 2);
        let [first, second, third] = ["10.0.0.1"; 3].map(life);
        let _first = places.enter(&first).unwrap();
        let _second = places.enter(&second).unwrap();
        let _third = places.enter(&third).unwrap();
        assert!(has_ended(&first) && !has_ended(&second) && !has_ended(&third));
    }

    #[test]
    fn whoever_has_most_gives_way_first() {
        let places = House::new(3, 3);
        let lives = ["10.0.0.1", "2001:db8::1", "2001:db8::2", "10.0.0.3"].map(life);
        let _places = lives.each_ref().map(|life| places.enter(life).unwrap());
        assert_eq!(lives.each_ref().map(|life| has_ended(life)), [false, true, false, false]);
    }

    #[test]
    fn who_never_asked_for_anything_gives_way_before_who_did() {
        let places = House::new(2, 2);
        let [worker, silent, newcomer] = ["10.0.0.1"; 3].map(life);
        drop(worker.begin(holdfast_resilience::budget::Budget::new(0).hold()));
        let _places = [&worker, &silent, &newcomer].map(|life| places.enter(life).unwrap());
        assert!(!has_ended(&worker) && has_ended(&silent));
    }

    #[test]
    fn nothing_that_is_worked_on_gives_way() {
        let places = House::new(1, 1);
        let (busy, newcomer) = (life("10.0.0.1"), life("10.0.0.2"));
        let place = places.enter(&busy).unwrap();
        let turn = busy.begin(holdfast_resilience::budget::Budget::new(0).hold());
        assert!(places.enter(&newcomer).is_none() && !has_ended(&busy));
        drop(turn);
        let _newcomer = places.enter(&newcomer).unwrap();
        assert!(has_ended(&busy));
        drop(place);
        assert_eq!(places.0.lock().by.len(), 1, "a place that was given up is not given up twice");
    }

    #[test]
    fn fewer_places_than_before_hold_for_the_next_who_comes() {
        let mut places = House::new(3, 3);
        let lives = ["10.0.0.1"; 4].map(life);
        let _three = [0, 1, 2].map(|at| places.enter(&lives[at]).unwrap());
        places.1.connections = 2;
        let _fourth = places.enter(&lives[3]).unwrap();
        assert_eq!(lives.each_ref().map(|life| has_ended(life)), [true, true, false, false]);
    }

    #[test]
    fn handshakes_have_a_bound_of_their_own() {
        let places = House::new(10, 1);
        let handshake = || Life::new(Some("10.0.0.1".parse().unwrap()), true);
        let (open, first, second) = (life("10.0.0.1"), handshake(), handshake());
        let _places = [&open, &first, &second].map(|life| places.enter(life).unwrap());
        assert!(!has_ended(&open) && has_ended(&first) && !has_ended(&second));
        second.handshake_done();
        let third = handshake();
        let _third = places.enter(&third).unwrap();
        assert!(!has_ended(&second));
    }
}
