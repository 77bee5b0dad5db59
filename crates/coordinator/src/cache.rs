//! Whole answers that are given again to the very same request.
//!
//! An entry is named by everything that can change an answer: the caller, what was asked of which model, the whole
//! body in the shape it came in, what was looked up, what a session remembers. Only whole answers are kept: what failed,
//! was cut, or was withheld by a provider's filter never is. Kept in memory, within a bound of bytes, the least recently
//! used going first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_llm::{Answer, Finish, Image, Part, Request};
use holdfast_storage::Caller;
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::CacheUse;

/// The oldest answer that is given again.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// What an entry takes beside its texts.
const ENTRY_BYTES: usize = 512;

/// For which requests answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// None.
    Never,
    /// Those that say so with `Cache-Control: max-age=…` or `only-if-cached`, and those with a temperature of 0, which ask
    /// for the same answer each time.
    #[default]
    WhenAsked,
    /// All but those that say `no-store` or `no-cache`.
    Always,
}

/// The kept answers; cloning is shallow.
#[derive(Clone, Debug)]
pub(crate) struct AnswerCache {
    entries: Cache<Name, Kept>,
    mode: CacheMode,
}

/// What an answer is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; 32]);

#[derive(Clone, Debug)]
struct Kept {
    answer: Arc<Answer>,
    model: Arc<str>,
    since: Instant,
}

/// A kept answer, and the model that gave it.
pub(crate) struct Hit {
    pub(crate) answer: Arc<Answer>,
    pub(crate) model: Arc<str>,
}

/// What is done about kept answers in one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    /// Whether a kept answer will do, and how old it may be.
    pub(crate) look_up: Option<Duration>,
    /// Whether the answer is kept.
    pub(crate) keep: bool,
}

impl AnswerCache {
    pub(crate) fn new(mode: CacheMode, bytes: u64) -> Self {
        let weigh = |_: &Name, kept: &Kept| {
            // One that came as a stream has no body.
            let bytes = kept.answer.body.len() + bytes_of(&kept.answer.parts) + ENTRY_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder()
            .weigher(weigh)
            .max_capacity(bytes)
            .time_to_live(KEPT)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries, mode: if bytes == 0 { CacheMode::Never } else { mode } }
    }

    /// What to do for a request; nothing where kept answers play no part.
    pub(crate) fn plan(&self, caller: &Caller, model: &str, request: &Request, asked: CacheUse) -> Option<Plan> {
        let is_asked = asked.max_age_s.is_some() || asked.is_kept_only || request.sampling.temperature == Some(0.0);
        let applies = match self.mode {
            CacheMode::Never => false,
            CacheMode::WhenAsked => is_asked,
            CacheMode::Always => true,
        };
        // Several answers are wanted because they differ.
        let is_one = request.sampling.answers.unwrap_or(1) == 1;
        (applies && is_one).then(|| {
            let age_max = asked.max_age_s.map_or(KEPT, Duration::from_secs).min(KEPT);
            Plan {
                name: Name::of(caller, model, request),
                look_up: (!asked.is_fresh).then_some(age_max),
                keep: !asked.is_unkept,
            }
        })
    }

    pub(crate) fn get(&self, plan: &Plan) -> Option<Hit> {
        let age_max = plan.look_up?;
        let kept = self.entries.get(&plan.name)?;
        (kept.since.elapsed() <= age_max).then_some(Hit { answer: kept.answer, model: kept.model })
    }

    /// Keeps an answer, if it is one to be kept.
    pub(crate) fn put(&self, plan: &Plan, model: &str, answer: &Arc<Answer>) {
        let is_whole = matches!(answer.finish, Finish::Stop | Finish::ToolCalls | Finish::Length);
        if plan.keep && is_whole {
            let kept = Kept { answer: Arc::clone(answer), model: model.into(), since: Instant::now() };
            self.entries.insert(plan.name, kept);
        }
    }

    /// Bytes that kept answers take, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }
}

/// Bytes that parts take.
fn bytes_of(parts: &[Part]) -> usize {
    let of_part = |part: &Part| {
        size_of::<Part>()
            + match part {
                Part::Text(text) | Part::Reasoning { text, .. } => text.len(),
                Part::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.len(),
                Part::ToolResult { content, .. } => bytes_of(content),
                Part::Image(Image::Url(url)) => url.len(),
                Part::Image(Image::Inline { data, .. }) => data.len(),
            }
    };
    parts.iter().map(of_part).sum()
}

impl Name {
    fn of(caller: &Caller, model: &str, request: &Request) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            // A length before each part, so that no two lists of parts are the same bytes.
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(caller.id().as_bytes());
        part(model.as_bytes());
        part(request.context.as_deref().unwrap_or_default().as_bytes());
        part(format!("{:?}", request.history).as_bytes());
        part(format!("{:?}", request.betas).as_bytes());
        match &request.original {
            Some(original) => {
                part(original.shape.as_str().as_bytes());
                for (key, value) in original.body.iter().filter(|(key, _)| !is_about_delivery(key)) {
                    part(key.as_bytes());
                    part(value.to_string().as_bytes());
                }
            }
            None => part(format!("{request:?}").as_bytes()),
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// Whether a field says how an answer is to come, and nothing about what it is.
fn is_about_delivery(field: &str) -> bool {
    matches!(field, "stream" | "stream_options")
}

#[cfg(test)]
mod tests {
    use holdfast_llm::{Message, Original, Role, Sampling, Shape, Usage};

    use super::*;

    fn request(text: &str, temperature: Option<f64>) -> Request {
        let body = serde_json::json!({ "messages": [{ "role": "user", "content": text }], "stream": text.len().is_multiple_of(2) });
        Request {
            messages: vec![Message::text(Role::User, text)],
            sampling: Sampling { temperature, ..Sampling::default() },
            original: Some(Original { shape: Shape::OpenAi, body: body.as_object().unwrap().clone() }),
            ..Request::default()
        }
    }

    fn answer(finish: Finish) -> Arc<Answer> {
        Arc::new(Answer {
            id: "a".into(),
            model: "m".into(),
            parts: Vec::new(),
            finish,
            usage: Usage::default(),
            shape: Shape::OpenAi,
            body: bytes::Bytes::from_static(b"{}"),
        })
    }

    fn keeps(cache: &AnswerCache, asked: CacheUse, temperature: Option<f64>) -> bool {
        let Some(plan) = cache.plan(&Caller::owner(), "auto", &request("q", temperature), asked) else { return false };
        cache.put(&plan, "m", &answer(Finish::Stop));
        cache.get(&plan).is_some()
    }

    #[test]
    fn answers_are_kept_for_those_who_ask() {
        let asked = CacheUse { max_age_s: Some(60), ..CacheUse::default() };
        let new = |mode| AnswerCache::new(mode, 1 << 20);
        assert!(!keeps(&new(CacheMode::Never), asked, Some(0.0)));
        assert!(!keeps(&new(CacheMode::WhenAsked), CacheUse::default(), None));
        assert!(keeps(&new(CacheMode::WhenAsked), asked, None));
        assert!(keeps(&new(CacheMode::WhenAsked), CacheUse::default(), Some(0.0)));
        assert!(keeps(&new(CacheMode::Always), CacheUse::default(), None));
        assert!(!keeps(&new(CacheMode::Always), CacheUse { is_unkept: true, ..CacheUse::default() }, None));
        assert!(!keeps(&new(CacheMode::Always), CacheUse { is_fresh: true, ..CacheUse::default() }, None));
        assert!(!keeps(&AnswerCache::new(CacheMode::Always, 0), asked, None));
    }

    #[test]
    fn an_answer_too_old_will_not_do() {
        let cache = AnswerCache::new(CacheMode::Always, 1 << 20);
        let plan = |max_age_s| {
            let asked = CacheUse { max_age_s, ..CacheUse::default() };
            cache.plan(&Caller::owner(), "auto", &request("q", None), asked).unwrap()
        };
        cache.put(&plan(None), "m", &answer(Finish::Stop));
        assert!(cache.get(&plan(None)).is_some() && cache.get(&plan(Some(60))).is_some());
        assert!(cache.get(&plan(Some(0))).is_none());
    }

    #[test]
    fn only_the_very_same_request_gets_it() {
        let cache = AnswerCache::new(CacheMode::Always, 1 << 20);
        let name = |request: &Request, model: &str| {
            cache.plan(&Caller::owner(), model, request, CacheUse::default()).unwrap().name
        };
        let one = request("why", None);
        assert_eq!(name(&one, "auto"), name(&one, "auto"));
        assert_ne!(name(&one, "auto"), name(&one, "local"));
        assert_ne!(name(&one, "auto"), name(&request("why not", None), "auto"));
        let looked_up = Request { context: Some("found".into()), ..one.clone() };
        assert_ne!(name(&one, "auto"), name(&looked_up, "auto"));
        let remembered = Request { history: vec![Message::text(Role::User, "hello")], ..one.clone() };
        assert_ne!(name(&one, "auto"), name(&remembered, "auto"));
        let mut streamed = one.clone();
        streamed.original.as_mut().unwrap().body["stream"] = true.into();
        assert_eq!(name(&one, "auto"), name(&streamed, "auto"));
    }

    #[test]
    fn what_was_withheld_is_not_kept() {
        let cache = AnswerCache::new(CacheMode::Always, 1 << 20);
        let plan = cache.plan(&Caller::owner(), "auto", &request("q", None), CacheUse::default()).unwrap();
        for finish in [Finish::ContentFilter, Finish::Other("odd".into())] {
            cache.put(&plan, "m", &answer(finish));
            assert!(cache.get(&plan).is_none());
        }
    }
}
