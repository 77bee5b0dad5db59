//! Pages, groups, filters, reasons and kept answers.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use holdfast_knowledge::{Explain, Group, KnowledgeError, Learned, Mode, SearchRequest, Watch};
use holdfast_storage::Filter;
use serde_json::json;

use crate::house::{House, document, request};

/// Sixty documents about the moon, every third of which is in German.
async fn furnished() -> Result<House> {
    let house = House::new(Watch::No).await?;
    let documents = (0..60)
        .map(|n| {
            let lang = if n % 3 == 0 { "de" } else { "en" };
            document(&format!("d{n:02}"), &format!("The moon, part {n}. It is {n} times far."), json!({ "lang": lang }))
        })
        .collect();
    house.put(documents).await?;
    Ok(house)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_the_whole_in_parts() -> Result<()> {
    let house = furnished().await?;
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Lexical] {
        let whole = house.search(SearchRequest { mode, limit: 60, ..request("the moon far") }).await?;
        let whole: Vec<_> = whole.results.iter().map(|result| result.chunk_id).collect();
        ensure!(whole.len() == 60, "{mode:?} found {}", whole.len());
        let mut paged = Vec::new();
        let mut cursor = None;
        loop {
            let asked = SearchRequest { mode, limit: 7, cursor, ..request("the moon far") };
            let page = house.search(asked).await?;
            ensure!(page.results.len() <= 7);
            paged.extend(page.results.iter().map(|result| result.chunk_id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        ensure!(paged == whole, "{mode:?}: pages differ from the whole");
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_does_not_shift_pages_and_a_foreign_cursor_is_refused() -> Result<()> {
    let house = furnished().await?;
    let first = house.search(SearchRequest { limit: 20, ..request("the moon far") }).await?;
    let cursor = first.next_cursor.context("there is more")?;
    house.put(vec![document("new", "The moon far, moon far, the moon.", json!({}))]).await?;
    let asked = SearchRequest { limit: 20, cursor: Some(cursor.clone()), ..request("the moon far") };
    let second = house.search(asked).await?;
    let seen: HashSet<_> = first.results.iter().map(|result| result.chunk_id).collect();
    ensure!(second.results.iter().all(|result| !seen.contains(&result.chunk_id)), "a result stands on both pages");

    let other = SearchRequest { cursor: Some(cursor), ..request("the sun") };
    let refused = house.knowledge.search(&house.caller, other).await;
    ensure!(refused.is_err(), "a cursor of another search was taken");
    let nonsense = SearchRequest { cursor: Some("nonsense".into()), ..request("the moon far") };
    let refused = house.knowledge.search(&house.caller, nonsense).await;
    ensure!(matches!(refused, Err(KnowledgeError::Invalid { field: "cursor", .. })), "{refused:?}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_outlives_a_restart_but_not_a_change_before_it_comes_back() -> Result<()> {
    let house = furnished().await?;
    let first = house.search(SearchRequest { limit: 20, ..request("the moon far") }).await?;
    let seen: HashSet<_> = first.results.iter().map(|result| result.chunk_id).collect();
    let house = house.restart(Watch::No).await?;
    let asked = SearchRequest { limit: 20, cursor: first.next_cursor, ..request("the moon far") };
    let second = house.search(asked.clone()).await?;
    ensure!(second.results.len() == 20 && second.results.iter().all(|result| !seen.contains(&result.chunk_id)));
    let house = house.restart(Watch::No).await?;
    house.put(vec![document("new", "The moon far, moon far, the moon.", json!({}))]).await?;
    let refused = house.knowledge.search(&house.caller, asked).await;
    ensure!(matches!(refused, Err(KnowledgeError::CursorExpired)), "{refused:?}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_in_every_mode() -> Result<()> {
    let house = furnished().await?;
    let filter = Filter::parse(&json!({ "field": "metadata.lang", "eq": "de" }))?;
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Lexical] {
        let asked = SearchRequest { mode, limit: 60, filter: Some(filter.clone()), ..request("the moon") };
        let answer = house.search(asked).await?;
        ensure!(answer.results.len() == 20, "{mode:?} found {}", answer.results.len());
        ensure!(answer.results.iter().all(|result| result.metadata["lang"] == "de"));
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_many_chunks_is_one_result_where_documents_are_asked_for() -> Result<()> {
    let house = House::new(Watch::No).await?;
    let long = "The moon is far away from here. ".repeat(60);
    house.put(vec![document("long", &long, json!({})), document("short", "A moon.", json!({}))]).await?;
    let chunks = house.search(request("moon")).await?;
    ensure!(chunks.results.iter().filter(|result| result.document_id == "long").count() > 1);
    let grouped = house.search(SearchRequest { group: Group::Document, ..request("moon") }).await?;
    let mut ids: Vec<&str> = grouped.results.iter().map(|result| result.document_id.as_str()).collect();
    ids.sort_unstable();
    ensure!(ids == ["long", "short"], "{ids:?}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_name_ranks_and_add_up_to_the_score() -> Result<()> {
    let house = furnished().await?;
    let answer = house.search(SearchRequest { explain: Explain::Yes, ..request("the moon part 7") }).await?;
    let best = &answer.results[0];
    let reasons = best.explanation.as_ref().context("no reasons")?;
    let (dense, lexical) = (reasons.dense.context("no dense")?, reasons.lexical.context("no lexical")?);
    ensure!(dense.rank.is_some() && lexical.rank.is_some(), "{reasons:?}");
    ensure!(best.score >= dense.score && best.score <= dense.score + lexical.score, "{best:?}");
    let plain = house.search(request("the moon part 7")).await?;
    ensure!(plain.results[0].explanation.is_none());
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_of_use_moves_up_and_can_be_left_out() -> Result<()> {
    let house = House::new(Watch::No).await?;
    for (id, content) in [("a", "The moon is far away."), ("b", "The moon is far away, or so."), ("c", "Bread.")] {
        house.put(vec![document(id, content, json!({}))]).await?;
    }
    let order = async |learned| -> Result<Vec<String>> {
        let asked = SearchRequest { learned, explain: Explain::Yes, ..request("the moon is far away") };
        let found = house.search(asked).await?.results;
        Ok(found.into_iter().map(|result| result.document_id).collect())
    };
    let plain = order(Learned::Used).await?;
    ensure!(plain[0] == "a" && plain[1] == "b", "{plain:?}");
    // More than may be, for a document that is there and one that is not.
    house.knowledge.rank_by(vec![("b".to_owned(), 5.0), ("gone".to_owned(), 1.0), ("c".to_owned(), f32::NAN)]);
    let moved = order(Learned::Used).await?;
    ensure!(moved[0] == "b" && order(Learned::Ignored).await? == plain, "{moved:?}");
    let asked = SearchRequest { explain: Explain::Yes, ..request("the moon is far away") };
    let best = house.search(asked).await?.results.swap_remove(0);
    let boost = best.explanation.and_then(|reasons| reasons.usefulness);
    ensure!(boost == Some(0.1), "{boost:?}");
    // Each mode's own scores stay what they are.
    let dense = house.search(SearchRequest { mode: Mode::Dense, ..request("the moon is far away") }).await?;
    ensure!(dense.results[0].document_id == "a");
    house.knowledge.rank_by(Vec::new());
    ensure!(order(Learned::Used).await? == plain);
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_until_the_next_write() -> Result<()> {
    let house = furnished().await?;
    let first = house.search(request("the moon part 9")).await?;
    let again = house.search(request("the moon part 9")).await?;
    ensure!(!first.cached && again.cached);
    ensure!(format!("{:?}", first.results) == format!("{:?}", again.results));
    let other = house.search(SearchRequest { limit: 9, ..request("the moon part 9") }).await?;
    ensure!(!other.cached, "another limit is another question");
    house.put(vec![document("z", "The moon part 9, once more part 9.", json!({}))]).await?;
    let after = house.search(request("the moon part 9")).await?;
    ensure!(!after.cached && after.results.iter().any(|result| result.document_id == "z"));
    house.knowledge.remove_document(&house.caller, "default", "z").await?;
    let removed = house.search(request("the moon part 9")).await?;
    ensure!(removed.results.iter().all(|result| result.document_id != "z"), "what is removed is found");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_are_found_whole_and_in_parts() -> Result<()> {
    let house = House::new(Watch::No).await?;
    house
        .put(vec![
            document("nginx", "Set services.nginx.enable to true.", json!({})),
            document("snake", "Call parse_http_date on it.", json!({})),
            document("camel", "The parseConfigFile function fails.", json!({})),
            document("error", "The compiler says error[E0382]: use of moved value.", json!({})),
            document("path", "Look into src/storage/filter.rs for it.", json!({})),
        ])
        .await?;
    for (query, wanted) in [
        ("services.nginx.enable", "nginx"),
        ("nginx", "nginx"),
        ("parse_http_date", "snake"),
        ("http date", "snake"),
        ("parseConfigFile", "camel"),
        ("config file", "camel"),
        ("E0382", "error"),
        ("src/storage/filter.rs", "path"),
        ("filter.rs", "path"),
    ] {
        let answer = house.search(SearchRequest { mode: Mode::Lexical, ..request(query) }).await?;
        let first = answer.results.first().map(|result| result.document_id.as_str());
        ensure!(first == Some(wanted), "{query:?} found {first:?}");
    }
    house.close().await
}
