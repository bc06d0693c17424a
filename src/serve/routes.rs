//! The paths, and the answers that are short.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::attention::attention;
use super::completions::completions;
use super::error::{ApiError, JsonBody};
use super::guard::{self, Guard};
use super::metrics::Metrics;
use super::model::ServedModel;
use super::page;
use super::queue::Queue;

/// What the answers are made of.
pub(super) type App = Arc<Shared>;

/// What all requests share.
pub(super) struct Shared {
    pub(super) model: ServedModel,
    pub(super) queue: Queue,
    pub(super) metrics: Metrics,
    pub(super) guard: Guard,
}

const COMPLETIONS: &str = "/v1/completions";
const MODELS: &str = "/v1/models";
const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
const INFO: &str = "/api/info";
const ATTENTION: &str = "/api/attention";

/// The path as metrics count it: those that are none of ours are one.
pub(super) fn known(path: &str) -> &'static str {
    let own = [COMPLETIONS, MODELS, HEALTH, METRICS, INFO, ATTENTION, "/"];
    let found = own.into_iter().find(|own| *own == path);
    found.unwrap_or(if page::file(path).is_some() {
        "/"
    } else {
        "other"
    })
}

/// All routes behind the guard.
pub(super) fn router(app: &App) -> Router {
    Router::new()
        .route(COMPLETIONS, post(completions))
        .route(MODELS, get(models))
        .route(&format!("{MODELS}/{{*name}}"), get(model))
        .route(
            HEALTH,
            get(|| async { JsonBody(json!({ "status": "ok" })) }),
        )
        .route(METRICS, get(metrics))
        .route(INFO, get(info))
        .route(ATTENTION, post(attention))
        .fallback(get(files))
        .method_not_allowed_fallback(|| async {
            let message = "the method is not one of this path";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(from_fn_with_state(app.clone(), guard::watch))
        .with_state(app.clone())
}

async fn files(uri: Uri) -> Response {
    page::file(uri.path()).map_or_else(
        || {
            let message = format!("there is no '{}' here", uri.path());
            ApiError::new(StatusCode::NOT_FOUND, message).into_response()
        },
        IntoResponse::into_response,
    )
}

async fn models(State(app): State<App>) -> JsonBody {
    JsonBody(json!({ "object": "list", "data": [app.model.entry()] }))
}

async fn model(State(app): State<App>, Path(name): Path<String>) -> Result<JsonBody, ApiError> {
    app.model.expect(Some(&name))?;
    Ok(JsonBody(app.model.entry()))
}

async fn metrics(State(app): State<App>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, app.metrics.text(&app.queue)).into_response()
}

async fn info(State(app): State<App>) -> JsonBody {
    let mut info: Value = app.model.about();
    let (active, waiting) = app.queue.lengths();
    info["slots"] = app.queue.slots().into();
    info["active"] = active.into();
    info["waiting"] = waiting.into();
    info["tokens_per_s"] = app.metrics.tokens_per_s().into();
    JsonBody(info)
}
