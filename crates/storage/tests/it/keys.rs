//! Keys: shown once, found by their hash, useless once revoked.

use crate::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_until_it_is_revoked_and_is_nowhere_in_the_files() {
    let bench = Bench::new().await;
    let (key, secret) = bench.storage.create_key("laptop".into()).await.unwrap();
    let text = secret.reveal().to_owned();
    assert!(text.starts_with("hf_") && text.len() == 3 + 64, "{}", text.len());
    assert!(!format!("{secret:?}").contains(&text));
    let caller = bench.storage.authenticate(&text).unwrap().unwrap();
    assert_eq!(caller.id(), key.id);
    for wrong in ["", "hf_", "x", &text[..66], &format!("{text}0"), &text.to_uppercase()] {
        assert_eq!(bench.storage.authenticate(wrong).unwrap(), None, "{wrong}");
    }
    bench.storage.revoke_key(key.id.clone()).await.unwrap();
    assert_eq!(bench.storage.authenticate(&text).unwrap(), None);
    assert!(bench.storage.keys().unwrap()[0].revoked_at_ms.is_some());
    for name in ["holdfast.db", "holdfast.db-wal"] {
        let bytes = std::fs::read(bench.folder.path().join("db").join(name)).unwrap();
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{name}");
    }
}
