//! Providers: stored, replaced, bounded, removed.

use holdfast_storage::{
    PutError, StorageError,
    providers::{PROVIDERS_MAX, ProviderApi, ProviderRecord},
};

use crate::Bench;

fn provider(name: &str) -> ProviderRecord {
    ProviderRecord {
        name: name.into(),
        api: ProviderApi::Anthropic,
        endpoint: r#"{"url":"http://127.0.0.1:1"}"#.into(),
        key_file: Some("/secret".into()),
        settings: "{}".into(),
        created_at_ms: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_kept_as_it_was_set_until_it_is_removed() {
    let bench = Bench::new().await;
    let made = bench.storage.put_provider(provider("a")).await.unwrap();
    assert!(made.created_at_ms > 0);
    assert_eq!(ProviderRecord { created_at_ms: 0, ..made.clone() }, provider("a"));
    let changed = ProviderRecord { api: ProviderApi::OpenAi, key_file: None, ..provider("a") };
    let replaced = bench.storage.put_provider(changed.clone()).await.unwrap();
    assert_eq!(replaced, ProviderRecord { created_at_ms: made.created_at_ms, ..changed });
    let bench = bench.reopen(|_| {}).await;
    assert_eq!(bench.storage.providers().unwrap(), [replaced]);
    bench.storage.remove_provider("a".into()).await.unwrap();
    let missing = bench.storage.remove_provider("a".into()).await.unwrap_err();
    assert!(matches!(missing, StorageError::NotFound { what: "provider", .. }), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_providers_and_none_without_a_name() {
    let bench = Bench::new().await;
    for number in 0..PROVIDERS_MAX {
        bench.storage.put_provider(provider(&format!("p{number}"))).await.unwrap();
    }
    let refused = bench.storage.put_provider(provider("one too many")).await.unwrap_err();
    assert!(matches!(refused, PutError::TooMany { what: "providers", limit: PROVIDERS_MAX }), "{refused}");
    bench.storage.put_provider(provider("p7")).await.unwrap();
    assert_eq!(bench.storage.providers().unwrap().len(), PROVIDERS_MAX);
    let long = ProviderRecord { settings: "x".repeat(70_000), ..provider("p1") };
    for invalid in [provider(""), provider("a\nb"), long] {
        let refused = bench.storage.put_provider(invalid).await.unwrap_err();
        assert!(matches!(refused, PutError::Invalid { .. }), "{refused}");
    }
}
