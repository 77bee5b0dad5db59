//! The probes, and the description itself.

use serde_json::json;

use crate::{
    description::{Tag, operation::Operation, schema::Schemas},
    health::{Alive, Readiness, Summary},
    routes::Verb::Get,
};

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = Vec::from(probes(schemas));
    all.extend(pages());
    all
}

fn probes(schemas: &mut Schemas) -> [Operation; 4] {
    let ready = json!({ "status": "ready", "reason": null, "checked_at": "2026-01-31T23:59:59.123Z" });
    let unready = json!({ "status": "down", "reason": "model is down", "checked_at": "2026-01-31T23:59:59.123Z" });
    let summary = |of: &serde_json::Value, status: &str| {
        let mut summary = of.clone();
        summary["version"] = json!("0.1.0");
        summary["uptime_seconds"] = json!(3600);
        summary["components"] = json!([{ "name": "model", "status": status }]);
        summary
    };
    let probe = |path, id, about| Operation::new(Get, path, id, Tag::Health, about);
    [
        probe("/health/live", "probe_live", "Whether the process answers at all")
            .answer::<Alive>(schemas, 200, "It does", json!({ "status": "alive" }))
            .never_fails(),
        probe("/health/startup", "probe_startup", "Whether the server has started")
            .answer::<Alive>(schemas, 200, "It has", json!({ "status": "started" }))
            .never_fails(),
        probe("/health/ready", "probe_ready", "Whether work can be sent here")
            .answer::<Readiness>(schemas, 200, "It can", ready.clone())
            .answer::<Readiness>(schemas, 503, "It cannot, for this reason", unready.clone())
            .header(503, "Retry-After")
            .never_fails(),
        probe("/health", "health_summary", "The same, with every part's word")
            .answer::<Summary>(schemas, 200, "Work can be sent here", summary(&ready, "ready"))
            .answer::<Summary>(schemas, 503, "It cannot, for this reason", summary(&unready, "down"))
            .header(503, "Retry-After")
            .never_fails(),
    ]
}

fn pages() -> [Operation; 6] {
    let page = |path, id, about, media_type: &str, format: Option<&str>| {
        let schema = match format {
            Some(format) => json!({ "type": "string", "format": format }),
            None => json!({ "type": "string" }),
        };
        Operation::new(Get, path, id, Tag::Description, about).content(
            200,
            "It",
            &json!({ media_type: { "schema": schema } }),
        )
    };
    [
        Operation::new(Get, "/api/openapi.json", "show_openapi", Tag::Description, "This description").content(
            200,
            "OpenAPI 3.1",
            &json!({ "application/json": { "schema": {
                "type": "object",
                "properties": { "openapi": { "const": "3.1.0" }, "paths": { "type": "object" } },
                "required": ["openapi", "info", "paths", "components"],
            }}}),
        ),
        page("/api/docs", "show_page", "This description as a page", "text/html", None),
        page("/api/docs/start.js", "show_page_start", "A part of the page", "text/javascript", None),
        page("/api/docs/swagger-ui.js", "show_page_program", "A part of the page", "text/javascript", None),
        page("/api/docs/swagger-ui.css", "show_page_style", "A part of the page", "text/css", None),
        page("/api/docs/icon.png", "show_page_icon", "A part of the page", "image/png", Some("binary")),
    ]
}
