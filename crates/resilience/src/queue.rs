//! A bounded number of operations at once, and a bounded number of others that wait for their turn: first come, first
//! served. What is one too many is refused at once.
//!
//! How long somebody waits is theirs to bound: a wait that is dropped leaves no hole, neither in front of those who came
//! later nor among the places.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The door to something that can do only so much at a time, and a bench before it; cloning is shallow.
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: usize,
    waiting_max: usize,
    /// Gives places in the order in which they were asked for.
    free: Arc<Semaphore>,
    /// Those inside and those who wait. One count of both: who was given a place and does not know it yet would be counted
    /// twice, or not at all, by two.
    admitted: AtomicUsize,
}

/// Proof of having been let in; the place goes to the next when it is dropped.
#[derive(Debug)]
pub struct Place {
    // Dropped in this order, so that there are never more inside than were admitted.
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket,
}

/// Proof of being among those inside or those who wait.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
}

/// Every place is taken, and as many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {places} places are taken, and {waiting_max} wait for one")]
pub struct Full {
    /// How many places there are.
    pub places: usize,
    /// How many may wait.
    pub waiting_max: usize,
}

impl Queue {
    /// A door with `places`, at least one, before which `waiting_max` may wait.
    pub fn new(places: usize, waiting_max: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        let (free, admitted) = (Arc::new(Semaphore::new(places)), AtomicUsize::new(0));
        Self { shared: Arc::new(Shared { places, waiting_max, free, admitted }) }
    }

    /// A place, as soon as it is one's turn. Whose turn it is counts from when this is first polled.
    ///
    /// # Errors
    /// [`Full`], at once.
    pub async fn enter(&self) -> Result<Place, Full> {
        let ticket = self.admit()?;
        match Arc::clone(&self.shared.free).acquire_owned().await {
            Ok(permit) => Ok(Place { _permit: permit, _ticket: ticket }),
            // Nobody closes it.
            Err(_) => Err(self.full()),
        }
    }

    /// How many places are taken. One that was given to somebody who waits is taken, though they may not have come yet.
    pub fn in_use(&self) -> usize {
        self.shared.places.saturating_sub(self.shared.free.available_permits())
    }

    /// How many wait for a place.
    pub fn waiting(&self) -> usize {
        self.shared.admitted.load(Ordering::Acquire).saturating_sub(self.in_use())
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.shared.places
    }

    /// How many may wait.
    pub fn waiting_max(&self) -> usize {
        self.shared.waiting_max
    }

    fn admit(&self) -> Result<Ticket, Full> {
        let most = self.shared.places.saturating_add(self.shared.waiting_max);
        let enter = |admitted: usize| (admitted < most).then(|| admitted + 1);
        match self.shared.admitted.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => Ok(Ticket { shared: Arc::clone(&self.shared) }),
            Err(_) => Err(self.full()),
        }
    }

    fn full(&self) -> Full {
        Full { places: self.shared.places, waiting_max: self.shared.waiting_max }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.admitted.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, VecDeque},
        pin::Pin,
        sync::atomic::AtomicU64,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use super::*;

    type Entering = Pin<Box<dyn Future<Output = Result<Place, Full>> + Send>>;

    fn entering(queue: &Queue) -> Entering {
        let queue = queue.clone();
        Box::pin(async move { queue.enter().await })
    }

    fn poll(entering: &mut Entering) -> Poll<Result<Place, Full>> {
        entering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn place(entering: &mut Entering) -> Place {
        match poll(entering) {
            Poll::Ready(Ok(place)) => place,
            other => panic!("{other:?} instead of a place"),
        }
    }

    fn numbers(queue: &Queue) -> (usize, usize) {
        (queue.in_use(), queue.waiting())
    }

    #[test]
    fn those_who_wait_come_in_as_they_came() {
        let queue = Queue::new(1, 2);
        let inside = place(&mut entering(&queue));
        let (mut first, mut second, mut third) = (entering(&queue), entering(&queue), entering(&queue));
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        let Poll::Ready(Err(full)) = poll(&mut third) else { panic!("it does not wait") };
        assert_eq!(full, Full { places: 1, waiting_max: 2 });
        assert_eq!(full.to_string(), "all 1 places are taken, and 2 wait for one");
        assert_eq!(numbers(&queue), (1, 2));
        drop(inside);
        assert!(poll(&mut second).is_pending(), "it is not its turn");
        let inside = place(&mut first);
        assert_eq!(numbers(&queue), (1, 1));
        drop(inside);
        drop(place(&mut second));
        assert_eq!(numbers(&queue), (0, 0));
    }

    #[test]
    fn who_leaves_leaves_no_hole() {
        let queue = Queue::new(1, 3);
        let inside = place(&mut entering(&queue));
        let mut waiting: Vec<Entering> = (0..3).map(|_| entering(&queue)).collect();
        waiting.iter_mut().for_each(|entering| assert!(poll(entering).is_pending()));
        drop(waiting.remove(1));
        assert_eq!(numbers(&queue), (1, 2));
        let mut last = entering(&queue);
        assert!(poll(&mut last).is_pending(), "there is room to wait again");
        drop(inside);
        // The first has been given the place and leaves without having seen it.
        drop(waiting.remove(0));
        let inside = place(&mut waiting[0]);
        assert!(poll(&mut last).is_pending());
        drop(inside);
        drop(place(&mut last));
        assert_eq!(numbers(&queue), (0, 0));
    }

    #[test]
    fn a_place_that_somebody_has_yet_to_take_is_not_counted_twice() {
        let queue = Queue::new(1, 1);
        let inside = place(&mut entering(&queue));
        let mut first = entering(&queue);
        assert!(poll(&mut first).is_pending());
        drop(inside);
        assert_eq!(numbers(&queue), (1, 0));
        let mut second = entering(&queue);
        assert!(poll(&mut second).is_pending(), "it may wait, and does not get before the other");
        drop(place(&mut first));
        drop(place(&mut second));
    }

    #[test]
    fn where_nobody_may_wait_all_are_refused_at_once() {
        let queue = Queue::new(0, 0);
        assert_eq!((queue.places(), queue.waiting_max()), (1, 0));
        let inside = place(&mut entering(&queue));
        assert!(matches!(poll(&mut entering(&queue)), Poll::Ready(Err(_))));
        drop(inside);
        drop(place(&mut entering(&queue)));
        assert_eq!(Queue::new(usize::MAX, usize::MAX).in_use(), 0);
    }

    /// A queue by the book: numbers in the order in which they came; the first of them are inside.
    struct Model {
        places: usize,
        waiting_max: usize,
        inside: Vec<u64>,
        waiting: VecDeque<u64>,
    }

    impl Model {
        fn comes(&mut self, number: u64) -> bool {
            if self.inside.len() < self.places {
                self.inside.push(number);
            } else if self.waiting.len() < self.waiting_max {
                self.waiting.push_back(number);
            } else {
                return false;
            }
            true
        }

        fn goes(&mut self, number: u64) {
            self.inside.retain(|inside| *inside != number);
            self.waiting.retain(|waiting| *waiting != number);
            if self.inside.len() < self.places {
                self.inside.extend(self.waiting.pop_front());
            }
        }
    }

    #[test]
    fn a_hundred_thousand_random_steps_are_as_in_the_model() {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for (places, waiting_max) in [(1, 0), (1, 5), (3, 2), (8, 20)] {
            let queue = Queue::new(places, waiting_max);
            let mut model = Model { places, waiting_max, inside: Vec::new(), waiting: VecDeque::new() };
            let (mut inside, mut waiting) = (BTreeMap::<u64, Place>::new(), BTreeMap::<u64, Entering>::new());
            let mut refused = 0;
            for number in 0..25_000 {
                if random.u32(..100) < 55 {
                    let mut comes = entering(&queue);
                    match poll(&mut comes) {
                        Poll::Ready(Ok(place)) => drop(inside.insert(number, place)),
                        Poll::Ready(Err(_)) => refused += 1,
                        Poll::Pending => drop(waiting.insert(number, comes)),
                    }
                    let is_in = inside.contains_key(&number) || waiting.contains_key(&number);
                    assert_eq!(is_in, model.comes(number));
                } else {
                    let all: Vec<u64> = inside.keys().chain(waiting.keys()).copied().collect();
                    if let Some(leaver) = random.choice(all) {
                        drop((inside.remove(&leaver), waiting.remove(&leaver)));
                        model.goes(leaver);
                    }
                }
                assert_eq!(numbers(&queue), (model.inside.len(), model.waiting.len()));
                // Some look whether it is their turn; those who do not are nevertheless.
                waiting = waiting
                    .into_iter()
                    .filter_map(|(number, mut waits)| {
                        if random.bool() {
                            return Some((number, waits));
                        }
                        let looked = poll(&mut waits);
                        assert_eq!(looked.is_ready(), model.inside.contains(&number), "{number}");
                        let Poll::Ready(place) = looked else { return Some((number, waits)) };
                        inside.insert(number, place.unwrap());
                        None
                    })
                    .collect();
            }
            assert!(refused > 500, "({places}, {waiting_max}): {refused} refused");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_tasks_find_room_for_no_more_than_there_are_places() {
        let queue = Queue::new(3, 40);
        let (inside, served, refused, left) =
            (Arc::new(AtomicUsize::new(0)), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let counts = Arc::new((served, refused, left));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..64 {
            let (queue, inside, counts) = (queue.clone(), Arc::clone(&inside), Arc::clone(&counts));
            tasks.spawn(async move {
                let mut random = fastrand::Rng::with_seed(task);
                for _ in 0..500 {
                    let patience = Duration::from_micros(random.u64(..400));
                    let entering = async {
                        let place = queue.enter().await?;
                        assert!(inside.fetch_add(1, Ordering::AcqRel) < 3, "more inside than there are places");
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::AcqRel);
                        drop(place);
                        Ok::<_, Full>(())
                    };
                    // Whoever is inside stays until it is done: only waits are cut short.
                    let count = if random.bool() {
                        match entering.await {
                            Ok(()) => &counts.0,
                            Err(_) => &counts.1,
                        }
                    } else {
                        match tokio::time::timeout(patience, queue.enter()).await {
                            Ok(Ok(_)) => &counts.0,
                            Ok(Err(_)) => &counts.1,
                            Err(_) => &counts.2,
                        }
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let (served, refused, left) = (&counts.0, &counts.1, &counts.2);
        let all = [served, refused, left].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(all.iter().sum::<u64>(), 64 * 500);
        assert!(all[0] > 1_000 && all[1] > 10, "served, refused, left: {all:?}");
        assert_eq!(numbers(&queue), (0, 0), "a place or a seat was lost");
    }
}
