//! Models over real connections: what is tried again, what a breaker makes of it, and what it costs.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use holdfast_llm::{
    Ask, CallError, Deadlines, ErrorKind, Message, Model, Role, Shape, Tried,
    model::{Ability, Location, Settings, Spec},
};
use holdfast_resilience::{
    breaker::{self, State},
    retry::{self, Backoff, BudgetSettings, GivenUp},
};
use holdfast_testkit::upstream::{Script, Step, Upstream};

use super::rig::{MANNERS, Manner, PATIENT, SHAPES, answer, collected, drained, provider_at, question, text, upstream};

pub fn spec() -> Spec {
    Spec {
        name: "mock".into(),
        provider: "test".into(),
        upstream: "up-1".into(),
        location: Location::Remote,
        context_tokens: None,
        max_output_tokens: None,
        tools: Ability::Able,
        images: Ability::Able,
        formats: Ability::Able,
        continues: Ability::Unable,
        price: None,
    }
}

/// As in use, but for waits that no test has time for.
pub fn settings() -> Settings {
    let backoff = Backoff { base: Duration::from_millis(2), longest: Duration::from_millis(8) };
    Settings { retries: retry::Settings { backoff, ..retry::Settings::STANDARD }, ..Settings::default() }
}

/// The same, with one attempt a call.
fn once() -> Settings {
    Settings { retries: retry::Settings { attempts_max: 1, ..settings().retries }, ..settings() }
}

fn model_at(shape: Shape, url: impl Into<String>) -> Model {
    Model::new(spec(), provider_at(shape, url), settings())
}

pub fn ask() -> Ask {
    Ask::new(Arc::new(question("hi")), PATIENT)
}

/// What a model said, whichever way it was asked, and how it came to that.
async fn said(model: &Model, ask: &Ask, manner: Manner) -> Tried<String> {
    match manner {
        Manner::Whole => {
            let Tried { outcome, attempts, queued, given_up } = model.complete(ask).await;
            Tried { outcome: outcome.map(|answer| text(&answer)), attempts, queued, given_up }
        }
        Manner::Streamed => {
            let Tried { outcome, attempts, queued, given_up } = model.stream(ask).await;
            let outcome = match outcome {
                Ok(stream) => {
                    let (events, error) = drained(stream).await;
                    error.map_or_else(|| Ok(collected(&events).text()), Err)
                }
                Err(error) => Err(error),
            };
            Tried { outcome, attempts, queued, given_up }
        }
    }
}

fn kinds(tried: &Tried<String>) -> Vec<Option<ErrorKind>> {
    tried.attempts.iter().map(|attempt| attempt.error).collect()
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nobody_notices() {
    use ErrorKind::{Cut, Empty, InStream, Overloaded, RateLimited, Reset, ServerError};
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    for shape in SHAPES {
        for manner in MANNERS {
            let good = || answer(shape, manner, &["a", "b"]);
            let before = if shape == Shape::OpenAi { 1 } else { 3 };
            let mut scripts = vec![
                (Script::reset(), Reset),
                (Script::failure(429, "rate_limit_error", "").with_header("retry-after", "0"), RateLimited),
                (Script::failure(429, "rate_limit_error", ""), RateLimited),
                (Script::failure(500, "api_error", ""), ServerError),
                (Script::failure(529, "overloaded_error", ""), Overloaded),
                (good().dripping(30).then_after(1, [Step::Reset]), Reset),
            ];
            if manner == Manner::Streamed {
                scripts.push((Script::stream(Vec::<String>::new()), Empty));
                scripts.push((good().then_after(before, [Step::End]), Cut));
                scripts.push((good().then_after(before, [Step::Reset]), Reset));
                scripts.push((good().then_after(before, [Step::Body(error.into()), Step::End]), InStream));
            }
            for (script, kind) in scripts {
                let upstream = upstream().await;
                upstream.push(script);
                upstream.push(good());
                let tried = said(&model_at(shape, upstream.url()), &ask(), manner).await;
                assert_eq!(kinds(&tried), [Some(kind), None], "{shape:?} {manner:?}");
                assert_eq!(tried.outcome.unwrap(), "ab");
                assert_eq!(tried.attempts[0].waited, Duration::ZERO);
                assert!(tried.attempts[1].started >= tried.attempts[0].started + tried.attempts[0].duration);
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    for manner in MANNERS {
        for (script, kind) in [
            (Script::failure(401, "authentication_error", ""), ErrorKind::Unauthorized),
            (Script::failure(400, "invalid_request_error", ""), ErrorKind::Rejected),
            (Script::failure(404, "model_not_found", ""), ErrorKind::ModelNotFound),
            (Script::failure(400, "context_length_exceeded", ""), ErrorKind::ContextTooLong),
            (Script::typed(200, "text/html", "<html>"), ErrorKind::Malformed),
        ] {
            let upstream = upstream().await;
            upstream.always(script);
            let tried = said(&model_at(Shape::OpenAi, upstream.url()), &ask(), manner).await;
            assert_eq!(kinds(&tried), [Some(kind)]);
            assert_eq!((tried.given_up, upstream.received().len()), (None, 1));
        }
    }
}

#[tokio::test]
async fn nothing_is_tried_again_once_something_was_seen() {
    for shape in SHAPES {
        let upstream = upstream().await;
        let before = if shape == Shape::OpenAi { 1 } else { 3 };
        upstream.push(answer(shape, Manner::Streamed, &["a", "b"]).then_after(before + 1, [Step::Reset]));
        upstream.always(answer(shape, Manner::Streamed, &["never"]));
        let tried = model_at(shape, upstream.url()).stream(&ask()).await;
        assert_eq!(tried.attempts.iter().map(|attempt| attempt.error).collect::<Vec<_>>(), [None]);
        let (events, error) = drained(tried.outcome.unwrap()).await;
        assert_eq!((collected(&events).text().as_str(), error.map(|error| error.kind)), ("a", Some(ErrorKind::Reset)));
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_without_anything_visible_is_one() {
    let upstream = upstream().await;
    for shape in SHAPES {
        upstream.push(answer(shape, Manner::Streamed, &[]));
        let tried = said(&model_at(shape, upstream.url()), &ask(), Manner::Streamed).await;
        assert_eq!((tried.outcome.unwrap().as_str(), tried.attempts.len()), ("", 1));
    }
}

#[tokio::test]
async fn a_server_that_says_later_is_asked_later_or_not_at_all() {
    for manner in MANNERS {
        let upstream = upstream().await;
        upstream.always(Script::failure(429, "rate_limit_error", "").with_header("retry-after", "3600"));
        let model = model_at(Shape::OpenAi, upstream.url());
        let tried = said(&model, &ask(), manner).await;
        assert_eq!((kinds(&tried), tried.given_up), (vec![Some(ErrorKind::RateLimited)], Some(GivenUp::Wait)));
        assert_eq!(tried.outcome.unwrap_err().retry_after, Some(Duration::from_secs(3600)));
        for _ in 0..5 {
            said(&model, &ask(), manner).await;
        }
        assert_eq!(model.standing(std::time::Instant::now()).breaker, State::Closed, "a limit is no failure");
    }
}

#[tokio::test]
async fn three_attempts_are_made_and_the_last_failure_is_told() {
    for manner in MANNERS {
        let upstream = upstream().await;
        upstream.push(Script::failure(500, "api_error", "first"));
        upstream.push(Script::failure(529, "overloaded_error", "second"));
        upstream.push(Script::failure(502, "api_error", "third"));
        let tried = said(&model_at(Shape::OpenAi, upstream.url()), &ask(), manner).await;
        let statuses: Vec<_> = tried.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!(statuses, [Some(500), Some(529), Some(502)]);
        assert_eq!(tried.given_up, Some(GivenUp::Attempts));
        assert_eq!(tried.outcome.unwrap_err().words.as_deref(), Some("third"));
    }
}

#[tokio::test]
async fn a_breaker_opens_and_one_attempt_decides() {
    let mut upstream = upstream().await;
    upstream.always(Script::openai("a"));
    let pause = Duration::from_millis(200);
    let breaker = breaker::Settings { pause, ..breaker::Settings::INFERENCE };
    let model = Model::new(spec(), provider_at(Shape::OpenAi, upstream.url()), Settings { breaker, ..settings() });
    upstream.stop().await;
    // Three calls open it, not the three attempts of one.
    for failed in 1..=3 {
        let tried = said(&model, &ask(), Manner::Whole).await;
        assert_eq!(kinds(&tried), [Some(ErrorKind::Refused); 3]);
        let state = model.standing(std::time::Instant::now()).breaker;
        assert_eq!(state, if failed < 3 { State::Closed } else { State::Open });
    }
    let refused = said(&model, &ask(), Manner::Whole).await;
    let error = refused.outcome.unwrap_err();
    assert_eq!((error.kind, refused.attempts.len()), (ErrorKind::BreakerOpen, 0));
    assert!(error.retry_after.is_some_and(|after| after <= pause), "{error:?}");
    let standing = model.standing(std::time::Instant::now());
    assert_eq!(standing.breaker, State::Open);
    // It fails while it decides, and again nobody is let through.
    tokio::time::sleep(pause).await;
    assert_eq!(kinds(&said(&model, &ask(), Manner::Whole).await), [Some(ErrorKind::Refused)]);
    assert_eq!(said(&model, &ask(), Manner::Whole).await.outcome.unwrap_err().kind, ErrorKind::BreakerOpen);
    // It is back.
    upstream.resume().await.unwrap();
    tokio::time::sleep(pause).await;
    assert_eq!(said(&model, &ask(), Manner::Whole).await.outcome.unwrap(), "a");
    assert_eq!(model.standing(std::time::Instant::now()).breaker, State::Closed);
}

#[tokio::test]
async fn counting_decides_nothing() {
    let upstream = upstream().await;
    let pause = Duration::from_millis(50);
    let breaker = breaker::Settings { failures: Some(1), pause, ..breaker::Settings::INFERENCE };
    for shape in SHAPES {
        let model = Model::new(spec(), provider_at(shape, upstream.url()), Settings { breaker, ..once() });
        let state = || model.standing(std::time::Instant::now()).breaker;
        upstream.push(Script::failure(500, "api_error", ""));
        assert_eq!(model.count_tokens(&ask()).await.is_err(), shape == Shape::Anthropic);
        assert_eq!(state(), State::Closed);
        if shape == Shape::Anthropic {
            upstream.push(Script::failure(500, "api_error", ""));
        }
        said(&model, &ask(), Manner::Whole).await;
        tokio::time::sleep(pause).await;
        assert_eq!(model.count_tokens(&ask()).await.unwrap_err().kind, ErrorKind::BreakerOpen);
        assert_eq!(state(), State::Open, "whoever asks for an answer decides");
    }
}

#[tokio::test]
async fn it_dies_while_it_decides() {
    for manner in MANNERS {
        let upstream = upstream().await;
        let pause = Duration::from_millis(50);
        let breaker = breaker::Settings { failures: Some(1), pause, ..breaker::Settings::INFERENCE };
        let model = Model::new(spec(), provider_at(Shape::OpenAi, upstream.url()), Settings { breaker, ..once() });
        upstream.push(Script::reset());
        assert_eq!(kinds(&said(&model, &ask(), manner).await), [Some(ErrorKind::Reset)]);
        tokio::time::sleep(pause).await;
        // Half of an answer, then nothing: the failure is told, and the breaker is open again.
        upstream.push(answer(Shape::OpenAi, manner, &["a", "b"]).dripping(60).then_after(3, [Step::Reset]));
        let tried = said(&model, &ask(), manner).await;
        assert_eq!(tried.outcome.unwrap_err().kind, ErrorKind::Reset);
        assert_eq!(model.standing(std::time::Instant::now()).breaker, State::Open);
        // Nobody listens to who decides: the next may.
        tokio::time::sleep(pause).await;
        upstream.push(Script::hang());
        {
            let ask = ask();
            let asking = said(&model, &ask, manner);
            tokio::select! {
                tried = asking => panic!("{tried:?}"),
                _ = upstream.wait_for(2, |_| true) => (),
            }
        }
        upstream.push(answer(Shape::OpenAi, manner, &["c"]));
        assert_eq!(said(&model, &ask(), manner).await.outcome.unwrap(), "c");
        assert_eq!(model.standing(std::time::Instant::now()).breaker, State::Closed);
    }
}

#[tokio::test]
async fn a_stream_decides_with_its_first_piece_and_counts_with_its_end() {
    let upstream = upstream().await;
    let pause = Duration::from_millis(50);
    let breaker = breaker::Settings { failures: Some(1), pause, ..breaker::Settings::INFERENCE };
    let model = Model::new(spec(), provider_at(Shape::OpenAi, upstream.url()), Settings { breaker, ..once() });
    let state = || model.standing(std::time::Instant::now()).breaker;
    upstream.push(Script::reset());
    said(&model, &ask(), Manner::Streamed).await;
    tokio::time::sleep(pause).await;
    upstream.push(answer(Shape::OpenAi, Manner::Streamed, &["a", "b"]).then_after(2, [Step::Hang]));
    let mut stream = model.stream(&ask()).await.outcome.unwrap();
    assert_eq!(state(), State::Closed, "it answers");
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(state(), State::Closed, "who left says nothing");
    upstream.push(answer(Shape::OpenAi, Manner::Streamed, &["a", "b"]).then_after(2, [Step::End]));
    let stream = model.stream(&ask()).await.outcome.unwrap();
    assert_eq!(state(), State::Closed);
    assert_eq!(drained(stream).await.1.map(|error| error.kind), Some(ErrorKind::Cut));
    assert_eq!(state(), State::Open, "it was cut");
}

#[tokio::test]
async fn who_has_no_place_waits_and_then_is_refused() {
    let upstream = upstream().await;
    let few = Settings { concurrent_max: 1, waiting_max: 1, wait_max: Duration::from_millis(100), ..settings() };
    let model = Model::new(spec(), provider_at(Shape::OpenAi, upstream.url()), few);
    upstream.push(answer(Shape::OpenAi, Manner::Streamed, &["a", "b"]).then_after(2, [Step::Hang]));
    let stream = model.stream(&ask()).await.outcome.unwrap();
    let (mine, others) = (ask(), ask());
    let (waited, refused) = tokio::join!(model.complete(&mine), async {
        tokio::task::yield_now().await;
        model.complete(&others).await
    });
    let reason = |outcome: Result<_, CallError>| outcome.map(|_: holdfast_llm::Answer| ()).unwrap_err();
    let (waited, refused) = (reason(waited.outcome), reason(refused.outcome));
    assert_eq!(
        (waited.kind, waited.reason.as_str()),
        (ErrorKind::QueueFull, "no place among its calls came free in time")
    );
    assert_eq!((refused.kind, refused.reason.as_str()), (ErrorKind::QueueFull, "too many calls wait for this model"));
    // The place of a stream is free when it is dropped, or over.
    drop(stream);
    upstream.push(answer(Shape::OpenAi, Manner::Streamed, &["c"]));
    let mut stream = model.stream(&ask()).await.outcome.unwrap();
    while stream.next().await.is_some() {}
    upstream.push(Script::openai("d"));
    assert_eq!(text(&model.complete(&ask()).await.outcome.unwrap()), "d");
    drop(stream);
}

#[tokio::test]
async fn all_attempts_together_have_one_deadline() {
    let upstream = upstream().await;
    upstream.push(Script::failure(500, "api_error", "").first(Step::Wait(Duration::from_millis(150))));
    upstream.push(Script::hang());
    let total = Duration::from_millis(500);
    let ask = Ask { deadlines: Deadlines { total, ..PATIENT }, ..ask() };
    let began = std::time::Instant::now();
    let tried = said(&model_at(Shape::OpenAi, upstream.url()), &ask, Manner::Streamed).await;
    assert_eq!(kinds(&tried), [Some(ErrorKind::ServerError), Some(ErrorKind::TotalTimeout)]);
    assert!((total..total * 4).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_storm_of_failures_is_not_made_worse() {
    let upstream = upstream().await;
    upstream.always(Script::failure(503, "overloaded_error", ""));
    let budget = BudgetSettings { percent: 20, per_second: 0, saved_max: 4 };
    let retries = retry::Settings { budget, ..settings().retries };
    // A breaker that never opens, so that the budget alone has to do it.
    let breaker = breaker::Settings { failures: None, ..breaker::Settings::INFERENCE };
    let model =
        Model::new(spec(), provider_at(Shape::OpenAi, upstream.url()), Settings { breaker, retries, ..settings() });
    let calls = 50;
    for _ in 0..calls {
        said(&model, &ask(), Manner::Whole).await;
    }
    let retried = upstream.received().len() - calls;
    // Nothing can be put into a budget that is full, so the first call gives nothing.
    assert_eq!(retried, 4 + (calls - 1) / 5);
}

#[tokio::test]
async fn a_model_that_can_be_reached_again_is_noticed() {
    let mut upstream = upstream().await;
    let model = model_at(Shape::OpenAi, upstream.url());
    upstream.stop().await;
    let watching = async {
        for _ in 0..3 {
            said(&model, &ask(), Manner::Whole).await;
        }
        assert_eq!(model.standing(std::time::Instant::now()).breaker, State::Open);
        upstream.always(Script::json(200, r#"{"data":[]}"#));
        upstream.resume().await.unwrap();
        upstream.wait_for(0, |received| received.path == "/v1/models").await;
        while model.standing(std::time::Instant::now()).breaker != State::Closed {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = model.watch() => panic!("it never ends"),
        () = watching => (),
    }
}

#[tokio::test]
async fn the_words_of_a_conversation_do_not_reach_the_log() {
    let upstream = Upstream::start().await.unwrap();
    upstream.always(Script::failure(400, "invalid_request_error", "bad"));
    let mut asked = ask();
    asked.request = Arc::new(holdfast_llm::Request {
        messages: vec![Message::text(Role::User, "my diary")],
        ..holdfast_llm::Request::default()
    });
    let tried = model_at(Shape::OpenAi, upstream.url()).complete(&asked).await;
    assert!(!format!("{:?}", tried.outcome.unwrap_err()).contains("diary"));
}
