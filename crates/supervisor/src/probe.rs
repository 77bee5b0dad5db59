//! How a service is asked whether it works: the question is its user's, the pace is ours.

use std::{pin::Pin, time::Duration};

use crate::words;

/// An answer on its way.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// A question to a service that is running, or begins to.
///
/// It is asked once at a time and given up, by dropping it, when it takes too long. A service that is busy works: a
/// question that would wait behind real work has to be answered by that work going on, or a loaded service is killed for
/// its load.
pub trait Probe: Send + Sync {
    /// Whether it works; if not, why, in a few words for the status page: no secret, no path, no text of a document.
    fn check(&self) -> Checking<'_>;
}

impl<F, Fut> Probe for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    fn check(&self) -> Checking<'_> {
        Box::pin(self())
    }
}

/// Asks once.
pub(crate) async fn ask(probe: &dyn Probe, within: Duration) -> Result<(), String> {
    match tokio::time::timeout(within, probe.check()).await {
        Ok(answer) => answer.map_err(|said| words::short(&said)),
        Err(_) => Err(format!("no answer within {} s", within.as_secs_f32())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_and_no_longer() {
        let never = || std::future::pending::<Result<(), String>>();
        assert_eq!(ask(&never, Duration::from_millis(1_500)).await, Err("no answer within 1.5 s".to_owned()));
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        assert_eq!(ask(&slow, Duration::from_secs(2)).await, Ok(()));
    }

    #[tokio::test]
    async fn what_a_probe_says_is_short_and_one_line() {
        let talkative = || async { Err(format!("no\nwonder\u{1b}[31m {}", "x".repeat(10_000))) };
        let said = ask(&talkative, Duration::from_secs(1)).await.unwrap_err();
        assert!(said.starts_with("no wonder x") && said.len() < 300, "{said}");
    }
}
