//! Keys: shown once, found by their hash, useless once revoked, replaced or expired, and never worth more than their maker.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use holdfast_storage::{
    Caller, Grants, Role, Scope, StorageError,
    keys::{Authentication, KEYS_MAX, KeyTerms, Refusal, is_well_formed, unix_ms},
    learned_collection,
};

use crate::Bench;

impl Bench {
    /// Makes a key, and gives its id and its secret.
    async fn key(&self, terms: KeyTerms) -> (String, String) {
        let (key, secret) = self.storage.create_key(&Caller::owner(), terms).await.unwrap();
        (key.id, secret.reveal().to_owned())
    }

    fn caller(&self, secret: &str) -> Option<Caller> {
        granted(self.storage.authenticate(secret, None).unwrap())
    }

    fn refusal(&self, secret: &str, address: Option<IpAddr>) -> Option<Refusal> {
        match self.storage.authenticate(secret, address).unwrap() {
            Authentication::Granted(_) => None,
            Authentication::Refused(refusal) => Some(refusal),
        }
    }
}

fn granted(found: Authentication) -> Option<Caller> {
    match found {
        Authentication::Granted(caller) => Some(caller),
        Authentication::Refused(_) => None,
    }
}

fn admin() -> KeyTerms {
    KeyTerms::of("laptop", Role::Admin)
}

fn in_seconds(seconds: u64) -> Option<i64> {
    Some(unix_ms(SystemTime::now() + Duration::from_secs(seconds)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_until_it_is_revoked_and_is_nowhere_in_the_files() {
    let bench = Bench::new().await;
    let (key, secret) = bench.storage.create_key(&Caller::owner(), admin()).await.unwrap();
    let text = secret.reveal().to_owned();
    assert!(is_well_formed(&text), "{}", text.len());
    assert!(!format!("{secret:?}").contains(&text));
    assert_eq!(bench.caller(&text).unwrap().id(), key.id);
    for wrong in ["", "hf_", "x", &text[..51], &format!("{text}0"), &text.to_uppercase()] {
        assert_eq!(bench.refusal(wrong, None), Some(Refusal::Unknown), "{wrong}");
    }
    bench.storage.revoke_key(&Caller::owner(), key.id.clone()).await.unwrap();
    assert_eq!(bench.refusal(&text, None), Some(Refusal::Revoked));
    assert!(bench.storage.keys(&Caller::owner()).unwrap()[0].revoked_at_ms.is_some());
    for name in ["holdfast.db", "holdfast.db-wal"] {
        let bytes = std::fs::read(bench.folder.path().join("db").join(name)).unwrap();
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_may_do_is_what_its_roles_stand_for() {
    let bench = Bench::new().await;
    let notes = "notes".to_owned();
    let grants = Grants::only([notes.clone()]);
    let roles = vec![Role::Reader, Role::Metrics];
    let (id, secret) = bench.key(KeyTerms { roles, grants: grants.clone(), ..admin() }).await;
    let caller = bench.caller(&secret).unwrap();
    assert!(caller.may(Scope::Search) && caller.may(Scope::MetricsRead) && !caller.may(Scope::DocumentsWrite));
    let with_its_own = Grants::only([notes, learned_collection(&id)]);
    assert_eq!((caller.id(), caller.grants()), (id.as_str(), &with_its_own));
    let expired = KeyTerms { expires_at_ms: in_seconds(0), ..admin() };
    assert_eq!(bench.refusal(&bench.key(expired).await.1, None), Some(Refusal::Expired));
    let local = KeyTerms { addresses: vec!["127.0.0.0/8".parse().unwrap()], ..admin() };
    let secret = bench.key(local).await.1;
    assert_eq!(bench.refusal(&secret, Some([127, 1, 2, 3].into())), None);
    assert_eq!(bench.refusal(&secret, Some([10, 1, 2, 3].into())), Some(Refusal::ElsewhereOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let bench = Bench::new().await;
    let owner = Caller::owner();
    let (id, first) = bench.key(admin()).await;
    let hour = Duration::from_secs(3_600);
    let (key, second) = bench.storage.rotate_key(&owner, id.clone(), hour).await.unwrap();
    assert!(key.former_secret_until_ms.is_some());
    for secret in [&first, second.reveal()] {
        assert_eq!(bench.caller(secret).unwrap().id(), id);
    }
    for _ in 0..10 {
        bench.storage.rotate_key(&owner, id.clone(), hour).await.unwrap();
    }
    assert_eq!(bench.refusal(&first, None), Some(Refusal::Unknown), "former secrets are not endless");
    // Without grace, every former secret ends, the first one too.
    let (key, third) = bench.storage.rotate_key(&owner, id.clone(), Duration::ZERO).await.unwrap();
    assert!(key.former_secret_until_ms.is_none());
    for secret in [&first, second.reveal()] {
        assert_ne!(bench.refusal(secret, None), None);
    }
    assert_eq!(bench.caller(third.reveal()).unwrap().id(), id);
    bench.storage.revoke_key(&owner, id.clone()).await.unwrap();
    let again = bench.storage.rotate_key(&owner, id, hour).await;
    assert!(matches!(again, Err(StorageError::NotFound { what: "key", .. })), "a revoked key does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_more_than_they_have() {
    let bench = Bench::new().await;
    let storage = &bench.storage;
    let terms = KeyTerms {
        grants: Grants::only(["a".to_owned(), "b".to_owned()]),
        models: Grants::only(["local".to_owned()]),
        addresses: vec!["10.0.0.0/8".parse().unwrap()],
        expires_at_ms: in_seconds(60),
        ..admin()
    };
    let (id, secret) = bench.key(terms.clone()).await;
    let maker = granted(storage.authenticate(&secret, Some([10, 0, 0, 1].into())).unwrap()).unwrap();
    let with_its_own = Grants::only(["a".to_owned(), "b".to_owned(), learned_collection(&id)]);
    assert_eq!((maker.grants(), maker.models()), (&with_its_own, &terms.models));
    let (wider, _) = bench.key(admin()).await;
    for too_much in [
        KeyTerms { grants: Grants::All, ..terms.clone() },
        KeyTerms { grants: Grants::only(["c".to_owned()]), ..terms.clone() },
        KeyTerms { models: Grants::All, ..terms.clone() },
        KeyTerms { models: Grants::only(["local".to_owned(), "remote".to_owned()]), ..terms.clone() },
        KeyTerms { expires_at_ms: in_seconds(3_600), ..terms.clone() },
        KeyTerms { addresses: vec!["0.0.0.0/0".parse().unwrap()], ..terms.clone() },
    ] {
        let refused = storage.create_key(&maker, too_much.clone()).await;
        assert!(matches!(refused, Err(StorageError::Forbidden { .. })), "{too_much:?}");
    }
    // What is left open is as narrow as the maker's.
    let open = KeyTerms { addresses: Vec::new(), expires_at_ms: None, ..terms.clone() };
    let (made, _) = storage.create_key(&maker, open).await.unwrap();
    assert_eq!((&made.terms.addresses, made.terms.expires_at_ms), (&terms.addresses, terms.expires_at_ms));
    // A wider key does not exist for them.
    assert!(storage.keys(&maker).unwrap().iter().all(|key| key.id != wider));
    let rotated = storage.rotate_key(&maker, wider.clone(), Duration::ZERO).await;
    assert!(matches!(rotated, Err(StorageError::NotFound { .. })));
    assert!(matches!(storage.revoke_key(&maker, wider).await, Err(StorageError::NotFound { .. })));
    // Once revoked, not even what began before is done.
    storage.revoke_key(&maker, maker.id().to_owned()).await.unwrap();
    assert!(matches!(storage.create_key(&maker, terms).await, Err(StorageError::Forbidden { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_written_down_and_keys_are_not_endless() {
    let bench = Bench::new().await;
    let (id, secret) = bench.key(admin()).await;
    bench.caller(&secret).unwrap();
    bench.storage.note_used_keys().await.unwrap();
    let keys = bench.storage.keys(&Caller::owner()).unwrap();
    assert!(keys.iter().any(|key| key.id == id && key.last_used_at_ms >= Some(key.created_at_ms)));
    for _ in keys.len()..KEYS_MAX {
        bench.key(KeyTerms::of("one of many", Role::Metrics)).await;
    }
    let refused = bench.storage.create_key(&Caller::owner(), admin()).await;
    assert!(matches!(refused, Err(StorageError::TooManyKeys { limit: KEYS_MAX })));
}
