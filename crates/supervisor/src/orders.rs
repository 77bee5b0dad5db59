//! What a service's user wants of it, which may change at any moment: the last wish counts, and none gets lost.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// That it runs.
    Up,
    /// That it does not, for the time being.
    Down,
    /// That it does not, and is forgotten.
    Gone,
}

/// A wish. A later one has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) number: u64,
    pub(crate) aim: Aim,
}

/// What a wish means to a service that fulfilled the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To end, and start again.
    Restart,
    /// To end.
    Stop,
    /// To end for good.
    Leave,
}

/// The wishes as the service sees them.
pub(crate) struct Orders {
    wishes: watch::Receiver<Wish>,
    stop: CancellationToken,
    /// The wish that is being fulfilled.
    accepted: u64,
}

impl Orders {
    pub(crate) fn new(wishes: watch::Receiver<Wish>, stop: CancellationToken) -> Self {
        let accepted = wishes.borrow().number;
        Self { wishes, stop, accepted }
    }

    /// Takes the present wish for the one to fulfil.
    pub(crate) fn accept(&mut self) -> Wish {
        let wish = *self.wishes.borrow_and_update();
        self.accepted = wish.number;
        if self.stop.is_cancelled() { Wish { aim: Aim::Gone, ..wish } } else { wish }
    }

    /// Waits until a service that runs has to do something else.
    pub(crate) async fn next(&mut self) -> Order {
        loop {
            if self.stop.is_cancelled() {
                return Order::Leave;
            }
            let wish = *self.wishes.borrow_and_update();
            match wish.aim {
                Aim::Gone => return Order::Leave,
                Aim::Down => return Order::Stop,
                Aim::Up if wish.number != self.accepted => return Order::Restart,
                Aim::Up => self.changed().await,
            }
        }
    }

    /// Waits until there is another wish than the one accepted.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            changed = self.wishes.changed() => {
                if changed.is_err() {
                    // Nobody can wish for anything any more, but the supervisor can still end.
                    self.stop.cancelled().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> (watch::Sender<Wish>, CancellationToken, Orders) {
        let (wishes, stop) = (watch::Sender::new(Wish { number: 0, aim: Aim::Up }), CancellationToken::new());
        let orders = Orders::new(wishes.subscribe(), stop.clone());
        (wishes, stop, orders)
    }

    #[tokio::test]
    async fn the_last_wish_counts() {
        let (wishes, stop, mut orders) = orders();
        wishes.send_replace(Wish { number: 1, aim: Aim::Down });
        assert_eq!((orders.next().await, orders.next().await), (Order::Stop, Order::Stop));
        wishes.send_replace(Wish { number: 2, aim: Aim::Up });
        assert_eq!(orders.next().await, Order::Restart);
        assert_eq!(orders.accept(), Wish { number: 2, aim: Aim::Up });
        stop.cancel();
        assert_eq!((orders.next().await, orders.accept().aim), (Order::Leave, Aim::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_that_is_fulfilled_orders_nothing() {
        let (wishes, stop, mut orders) = orders();
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, orders.next()).await.is_err());
        drop(wishes);
        assert!(tokio::time::timeout(second, orders.next()).await.is_err());
        stop.cancel();
        assert_eq!(orders.next().await, Order::Leave);
    }
}
