//! What a first run leaves behind: a settings file to edit, and an admin key to use; and what it finds on this machine that
//! could be put to use.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::Result;
use futures::future::join_all;
use holdfast_storage::{
    Caller, Role, Storage, StorageError,
    keys::{KeyTerms, Secret},
};

use crate::settings::{FILE_NAME, reference};

/// What the first key is called.
pub const ADMIN: &str = "admin";

/// Servers of language models that people run on their machine, by the ports that each has where nobody chose another.
const USUAL: [(&str, &str); 3] =
    [("ollama", "127.0.0.1:11434"), ("llama-server", "127.0.0.1:8080"), ("lm-studio", "127.0.0.1:1234")];
/// How long a connection to this machine may take.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// How long the list of models may take.
const LIST_WITHIN: Duration = Duration::from_secs(1);
/// The longest list that is read.
const LIST_BYTES_MAX: usize = 1 << 20;

/// A server of language models that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// What it is likely to be.
    pub name: &'static str,
    /// The root of its interface.
    pub url: String,
    /// How many models it lists.
    pub models: usize,
}

/// Writes the annotated settings, all commented out, unless there is a file already. Tells whether it did.
pub fn write_settings(data_dir: &Path) -> Result<bool, StorageError> {
    let path = data_dir.join(FILE_NAME);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => Err(error),
        Ok(mut file) => file.write_all(reference::commented_out().as_bytes()),
    };
    written.map_err(|source| StorageError::File { action: "write", path, source })?;
    Ok(true)
}

/// Makes the admin key where there has never been a key.
pub async fn admin_key(storage: &Storage) -> Result<Option<Secret>> {
    let owner = Caller::owner();
    if !storage.keys(&owner)?.is_empty() {
        return Ok(None);
    }
    let (_, secret) = storage.create_key(&owner, KeyTerms::of(ADMIN, Role::Admin)).await?;
    Ok(Some(secret))
}

/// Servers of language models that answer on this machine. None is put to use: whoever started them may not want that.
pub async fn notice_providers() -> Vec<Noticed> {
    notice(&USUAL).await
}

async fn notice(places: &[(&'static str, &str)]) -> Vec<Noticed> {
    // A proxy has no business between two processes of one machine.
    let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_WITHIN).timeout(LIST_WITHIN).build();
    let Ok(client) = client else { return Vec::new() };
    let looks = places.iter().map(|&(name, address)| {
        let (client, url) = (client.clone(), format!("http://{address}/v1"));
        async move {
            let models = models(&client, &url).await?;
            Some(Noticed { name, url, models })
        }
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// How many models a server lists; nothing for what is no such list.
async fn models(client: &reqwest::Client, url: &str) -> Option<usize> {
    let mut response = client.get(format!("{url}/models")).send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        if body.len() + piece.len() > LIST_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    let list: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let models = list["data"].as_array()?;
    models.iter().all(|model| model["id"].is_string()).then_some(models.len())
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, routing::get};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;

    async fn server(tasks: &TaskTracker, status: u16, answer: Value) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let status = StatusCode::from_u16(status).unwrap();
        let router = Router::new().route("/v1/models", get(move || std::future::ready((status, Json(answer)))));
        tasks.spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn what_lists_models_is_noticed_and_nothing_else() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tasks = TaskTracker::new();
        let list = json!({ "object": "list", "data": [{ "id": "a" }, { "id": "b" }] });
        let good = server(&tasks, 200, list.clone()).await;
        let failing = server(&tasks, 500, list).await;
        let other = server(&tasks, 200, json!({ "data": [{ "name": "a" }] })).await;
        let nonsense = server(&tasks, 200, json!(["hello"])).await;
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = silent.local_addr().map(|address| address.to_string()).unwrap();
        let places = [good.clone(), failing, other, nonsense, gone, silent];
        let places: Vec<_> = places.iter().map(|place| ("it", place.as_str())).collect();
        let found = notice(&places).await;
        assert_eq!(found, [Noticed { name: "it", url: format!("http://{good}/v1"), models: 2 }]);
    }
}
