//! `/api/openapi.json`, and `/api/docs`, which shows it to people in a browser.
//!
//! The page is Swagger UI as its project releases it, taken out of the archive that a crate carries. Everything comes
//! from this server: the page's policy (`shield`) allows its browser nothing else, and no script or style within the page. These
//! routes need no key, so they tell nothing that is not in the project's repository.

use std::{
    io::{Cursor, Read},
    sync::LazyLock,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

use super::document as description;
use crate::error::{Code, Failure, SOMETHING_WENT_WRONG};

/// What comes from the archive changes with the program only.
const KEPT: &str = "public, max-age=3600";
const FRESH: &str = "no-cache";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| description().to_string().into());
static PROGRAM: LazyLock<Option<Bytes>> = LazyLock::new(|| from_archive("/dist/swagger-ui-bundle.js"));
static STYLE: LazyLock<Option<Bytes>> = LazyLock::new(|| from_archive("/dist/swagger-ui.css"));
static ICON: LazyLock<Option<Bytes>> = LazyLock::new(|| from_archive("/dist/favicon-32x32.png"));

pub(crate) async fn document() -> Response {
    respond(DOCUMENT.clone(), "application/json", FRESH)
}

pub(crate) async fn page() -> Response {
    respond(Bytes::from_static(include_bytes!("page.html")), "text/html; charset=utf-8", FRESH)
}

pub(crate) async fn start() -> Response {
    respond(Bytes::from_static(include_bytes!("start.js")), "text/javascript; charset=utf-8", FRESH)
}

pub(crate) async fn program() -> Result<Response, Failure> {
    archived(&PROGRAM, "text/javascript; charset=utf-8")
}

pub(crate) async fn style() -> Result<Response, Failure> {
    archived(&STYLE, "text/css; charset=utf-8")
}

pub(crate) async fn icon() -> Result<Response, Failure> {
    archived(&ICON, "image/png")
}

fn archived(file: &Option<Bytes>, media_type: &'static str) -> Result<Response, Failure> {
    let missing = || Failure::new(Code::Internal, SOMETHING_WENT_WRONG).cause("the archive of Swagger UI lacks a file");
    Ok(respond(file.clone().ok_or_else(missing)?, media_type, KEPT))
}

/// A file of the archive, by the end of its name: the folder it lies in has the version's name. Inflating the largest
/// takes some milliseconds, once.
fn from_archive(end: &str) -> Option<Bytes> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).ok()?;
    // Flavours of it, deeper in the archive, have files of the same name.
    let is_it = |name: &str| name.split_once('/').is_some_and(|(_, rest)| rest == &end[1..]);
    let name = archive.file_names().find(|name| is_it(name))?.to_owned();
    let mut file = archive.by_name(&name).ok()?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.size()).unwrap_or_default());
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes.into())
}

fn respond(bytes: Bytes, media_type: &'static str, kept: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_what_the_page_asks_for() {
        for (file, least) in [(&PROGRAM, 1_000_000), (&STYLE, 100_000), (&ICON, 100)] {
            assert!(file.as_ref().is_some_and(|bytes| bytes.len() > least));
        }
    }

    #[test]
    fn the_page_names_nothing_but_files_of_this_server() {
        let page = include_str!("page.html");
        assert!(!page.contains("://") && !page.contains("<style") && !page.contains("style="), "{page}");
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"docs/").count(), "{page}");
    }
}
