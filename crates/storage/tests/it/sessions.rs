//! Sessions: their owner's alone, whole turns or none, and bounded.

use std::time::{Duration, SystemTime};

use holdfast_storage::{
    Caller, Role,
    keys::{Authentication, KeyTerms, unix_ms},
    sessions::{
        MESSAGES_MAX, NewMessage, PASSAGES_MAX, SESSION_BYTES_MAX, SESSIONS_PER_OWNER_MAX, SentPassage, Session,
        SessionError, SessionTurn,
    },
};

use crate::Bench;

impl Bench {
    /// Somebody with a key.
    async fn somebody(&self) -> Caller {
        let (_, secret) = self.storage.create_key(&Caller::owner(), KeyTerms::of("x", Role::Agent)).await.unwrap();
        match self.storage.authenticate(secret.reveal(), None).unwrap() {
            Authentication::Granted(caller) => caller,
            Authentication::Refused(refusal) => unreachable!("{refusal:?}"),
        }
    }

    async fn session(&self, caller: &Caller, id: &str) -> Session {
        self.storage.open_session(caller, Some(id.to_owned()), in_an_hour()).await.unwrap()
    }
}

fn in_an_hour() -> i64 {
    unix_ms(SystemTime::now() + Duration::from_secs(3_600))
}

fn said(text: &str) -> NewMessage {
    NewMessage { role: "user".into(), body: format!("\"{text}\""), tokens: 3 }
}

fn passage(id: &str, text: &str) -> SentPassage {
    SentPassage { chunk_id: id.into(), content_hash: *blake3::hash(text.as_bytes()).as_bytes() }
}

fn turn(expected_turns: u64, texts: &[&str]) -> SessionTurn {
    let messages = texts.iter().map(|text| said(text)).collect();
    SessionTurn { expected_turns, messages, sent: Vec::new(), expires_at_ms: in_an_hour() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_remembers_its_turns_and_only_its_owner_finds_it() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let (owner, stranger) = (Caller::owner(), bench.somebody().await);
    let made = storage.open_session(&owner, None, in_an_hour()).await.unwrap();
    assert!(made.id.starts_with("ses_") && made.owner == owner.id() && made.turns == 0);
    let sent = vec![passage("a", "one"), passage("b", "two")];
    let first = SessionTurn { sent: sent.clone(), ..turn(0, &["hello", "good day"]) };
    let after = storage.append_turn(&owner, &made.id, first).await.unwrap();
    assert_eq!((after.turns, after.messages, after.size_bytes), (1, 2, 4 + 7 + 4 + 10));
    let again = SessionTurn { sent: vec![passage("a", "one"), passage("a", "changed")], ..turn(1, &["more"]) };
    storage.append_turn(&owner, &made.id, again).await.unwrap();

    let messages = storage.session_messages(&owner, &made.id, 0, 100).unwrap();
    let bodies: Vec<_> = messages.iter().map(|m| (m.number, m.message.body.as_str())).collect();
    assert_eq!(bodies, [(1, "\"hello\""), (2, "\"good day\""), (3, "\"more\"")]);
    assert_eq!(messages[0].message, said("hello"));
    assert_eq!(storage.session_messages(&owner, &made.id, 1, 1).unwrap()[0].number, 2);
    let mut remembered = storage.sent_passages(&owner, &made.id).unwrap();
    remembered.sort_by(|a, b| (&a.chunk_id, a.content_hash).cmp(&(&b.chunk_id, b.content_hash)));
    let mut expected = vec![passage("a", "one"), passage("a", "changed"), passage("b", "two")];
    expected.sort_by(|a, b| (&a.chunk_id, a.content_hash).cmp(&(&b.chunk_id, b.content_hash)));
    assert_eq!(remembered, expected);

    assert!(matches!(storage.session(&stranger, &made.id), Err(SessionError::NotFound)));
    assert!(matches!(storage.session_messages(&stranger, &made.id, 0, 9), Err(SessionError::NotFound)));
    assert!(matches!(storage.append_turn(&stranger, &made.id, turn(2, &[])).await, Err(SessionError::NotFound)));
    assert!(matches!(storage.remove_session(&stranger, &made.id).await, Err(SessionError::NotFound)));
    assert_eq!(storage.sessions(&stranger, None, 10).unwrap(), []);
    // An id is its owner's: another one's is another session, and tells nothing of the first.
    assert_eq!(bench.session(&stranger, &made.id).await.turns, 0);
    assert_eq!(bench.session(&owner, &made.id).await.turns, 2);

    let bench = bench.reopen(|_| {}).await;
    assert_eq!(bench.storage.session(&owner, &made.id).unwrap().turns, 2);
    bench.storage.remove_session(&owner, &made.id).await.unwrap();
    assert!(matches!(bench.storage.session(&owner, &made.id), Err(SessionError::NotFound)));
    assert_eq!(bench.storage.session_totals().unwrap(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_turns_at_once_one_is_told() {
    let bench = Bench::new().await;
    let owner = Caller::owner();
    bench.session(&owner, "s").await;
    let add = |text: &'static str| bench.storage.append_turn(&owner, "s", turn(0, &[text]));
    let (one, two) = futures::join!(add("one"), add("two"));
    let conflict = [one, two].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(conflict[..], [SessionError::Conflict { expected: 0, found: 1 }]), "{conflict:?}");
    assert_eq!(bench.storage.session_messages(&owner, "s", 0, 9).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_gone_before_it_is_removed() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let owner = Caller::owner();
    bench.session(&owner, "stays").await;
    bench.session(&owner, "goes").await;
    let over = SessionTurn { expires_at_ms: unix_ms(SystemTime::now()) - 1, ..turn(0, &["secret"]) };
    storage.append_turn(&owner, "goes", over).await.unwrap();
    assert!(matches!(storage.session(&owner, "goes"), Err(SessionError::NotFound)));
    assert!(matches!(storage.append_turn(&owner, "goes", turn(1, &[])).await, Err(SessionError::NotFound)));
    let listed: Vec<_> = storage.sessions(&owner, None, 10).unwrap().into_iter().map(|s| s.id).collect();
    assert_eq!(listed, ["stays"]);
    assert_eq!(storage.session_totals().unwrap().0, 2);
    // The id is free again, and what was said is not found under it.
    assert_eq!(bench.session(&owner, "goes").await.turns, 0);
    assert_eq!(storage.session_messages(&owner, "goes", 0, 9).unwrap(), []);
    assert_eq!(storage.remove_expired_sessions(unix_ms(SystemTime::now())).await.unwrap(), 0);
    assert_eq!(storage.remove_expired_sessions(in_an_hour() + 60_000).await.unwrap(), 2);
    assert_eq!(storage.session_totals().unwrap(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_newest_first_and_the_one_left_alone_longest_makes_room() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let (owner, other) = (Caller::owner(), bench.somebody().await);
    bench.session(&other, "other").await;
    for number in 0..SESSIONS_PER_OWNER_MAX {
        bench.session(&owner, &format!("s{number}")).await;
    }
    // The first one made is used again; the second is the one that was left alone.
    storage.append_turn(&owner, "s0", SessionTurn { expires_at_ms: in_an_hour(), ..turn(0, &["x"]) }).await.unwrap();
    bench.session(&owner, "one more").await;
    assert!(storage.session(&owner, "s0").is_ok() && storage.session(&owner, "s2").is_ok());
    assert!(matches!(storage.session(&owner, "s1"), Err(SessionError::NotFound)));
    assert!(storage.session(&other, "other").is_ok());
    let page = storage.sessions(&owner, None, 2).unwrap();
    assert_eq!(page.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["one more", "s999"]);
    assert_eq!(storage.sessions(&owner, Some(page[1].number), 1).unwrap()[0].id, "s998");
    for id in ["", "a\nb", &"x".repeat(129)] {
        let refused = storage.open_session(&owner, Some(id.to_owned()), in_an_hour()).await;
        assert!(matches!(refused, Err(SessionError::Invalid { .. })), "{id:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_too_long_gives_up_what_its_summary_tells_of() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let owner = Caller::owner();
    bench.session(&owner, "s").await;
    let many = vec!["x"; MESSAGES_MAX];
    storage.append_turn(&owner, "s", turn(0, &many)).await.unwrap();
    assert!(matches!(storage.append_turn(&owner, "s", turn(1, &["y"])).await, Err(SessionError::Full)));
    assert_eq!(storage.session(&owner, "s").unwrap().turns, 1);

    let summarise = |up_to, text: &str| storage.summarise_session(&owner, "s", up_to, text.to_owned());
    assert_eq!(summarise(100, "so far").await.unwrap().summary.as_deref(), Some("so far"));
    for no_message in [0, 100, MESSAGES_MAX as u64 + 1] {
        assert!(matches!(summarise(no_message, "").await, Err(SessionError::Invalid { .. })), "{no_message}");
    }
    let after = storage.append_turn(&owner, "s", turn(1, &["y"])).await.unwrap();
    assert_eq!((after.messages, after.gone_up_to, after.summarised_up_to), (MESSAGES_MAX as u64 + 1, 100, 100));
    let kept = storage.session_messages(&owner, "s", 0, MESSAGES_MAX).unwrap();
    assert_eq!((kept[0].number, kept.len()), (101, MESSAGES_MAX - 99));
    let bytes = kept.iter().map(|m| m.message.role.len() + m.message.body.len()).sum::<usize>();
    assert_eq!(after.size_bytes, bytes as u64);

    let large = "x".repeat(SESSION_BYTES_MAX as usize - 1_000);
    let refused = storage.append_turn(&owner, "s", turn(2, &[&large])).await;
    assert!(matches!(refused, Err(SessionError::Full)), "{refused:?}");
    summarise(after.messages, "all of it").await.unwrap();
    let after = storage.append_turn(&owner, "s", turn(2, &[&large])).await.unwrap();
    assert_eq!((after.size_bytes, after.gone_up_to), (SESSION_BYTES_MAX - 1_000 + 6, MESSAGES_MAX as u64 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_sent_longest_ago_are_forgotten_first() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let owner = Caller::owner();
    bench.session(&owner, "s").await;
    let sent = |from: usize, count: usize| (from..from + count).map(|n| passage(&n.to_string(), "text")).collect();
    storage.append_turn(&owner, "s", SessionTurn { sent: sent(0, 10), ..turn(0, &[]) }).await.unwrap();
    storage.append_turn(&owner, "s", SessionTurn { sent: sent(10, PASSAGES_MAX - 5), ..turn(1, &[]) }).await.unwrap();
    let kept = storage.sent_passages(&owner, "s").unwrap();
    assert_eq!(kept.len(), PASSAGES_MAX);
    let of_the_first = kept.iter().filter(|p| p.chunk_id.parse::<usize>().unwrap() < 10).count();
    assert_eq!(of_the_first, 5);
}
