//! `POST /v1/completions`: a request becomes sequences in the queue, and their pieces an answer, whole or
//! as a stream of server-sent events.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::answer::{Answer, choice, join, random};
use super::choice::{Choice, Piece};
use super::error::{ApiError, JsonBody};
use super::fields::{self, Completion};
use super::queue::{Job, Pieces, Refusal};
use super::routes::App;
use crate::decode::{Overflow, Request as DecodeRequest};

/// Longest body.
const MAX_BODY_BYTES: usize = 4 << 20;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Answers a completions request.
pub(super) async fn completions(
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = read(request).await?;
    let request = fields::parse(&body, &app.model)?;
    drop(body);
    let (pieces, receiver) = unbounded_channel();
    let started = Instant::now();
    let jobs = jobs(&request, &app, &pieces, started);
    let prompt_tokens = request.prompts.iter().map(|p| p.tokens.len()).sum();
    let open = jobs.len();
    app.queue.push(jobs).map_err(|why| refusal(why, &app))?;
    app.metrics.prompt(prompt_tokens);
    let answer = Answer::new(&app.model, prompt_tokens);
    let mut answering = Answering {
        app,
        answer,
        request,
        receiver,
        open,
        started,
    };
    if answering.request.stream {
        // A fault that comes before anything else has a status of its own.
        let first = answering.next().await?;
        return Ok(stream(answering, first));
    }
    answering.whole().await
}

/// The body of a request that says that it is JSON.
pub(super) async fn read(request: Request) -> Result<Bytes, ApiError> {
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    let too_long = || {
        let message = format!("the body is longer than {MAX_BODY_BYTES} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length = head.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_long());
    }
    match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let is_long = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("length limit"));
            let broken = || ApiError::new(StatusCode::BAD_REQUEST, "the body broke off");
            Err(if is_long { too_long() } else { broken() })
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

/// A page elsewhere cannot send this type unasked.
fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body has to be JSON: Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

fn jobs(request: &Completion, app: &App, pieces: &Pieces, submitted: Instant) -> VecDeque<Job> {
    let seed = request.seed.unwrap_or_else(random);
    let prompts = request.prompts.iter().enumerate();
    let sequences = prompts.flat_map(|(i, prompt)| (0..request.n).map(move |j| (i, prompt, j)));
    sequences
        .map(|(i, prompt, sample)| Job {
            request: DecodeRequest {
                prompt: prompt.tokens.clone(),
                max_new_tokens: request.max_tokens,
                sampling: request.sampling,
                seed,
                sample: u32::try_from(sample).expect("checked to be small"),
                // The choice ends with it, since its log-probability is part of the answer.
                end: Vec::new(),
                overflow: Overflow::Stop,
                logprobs: request.logprobs,
                prompt_logprobs: request.echo && request.logprobs.is_some() && prompt.given,
            },
            choice: Choice::new(
                i * request.n + sample,
                request,
                prompt,
                &app.model.tokenizer,
                &app.model.ends,
            ),
            pieces: pieces.clone(),
            submitted,
        })
        .collect()
}

/// What is said to a request that is not taken on.
pub(super) fn refusal(why: Refusal, app: &App) -> ApiError {
    match why {
        Refusal::Full => ApiError {
            retry_after_s: Some(app.metrics.retry_after_s()),
            ..ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "as many requests wait as may; try again later",
            )
        }
        .with_code("queue_full"),
        Refusal::Closed => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down",
        ),
    }
}

/// A request that is being answered; dropping it gives its sequences up.
struct Answering {
    app: App,
    answer: Answer,
    request: Completion,
    receiver: UnboundedReceiver<Result<Piece, String>>,
    /// Choices that have not ended.
    open: usize,
    started: Instant,
}

impl Answering {
    async fn next(&mut self) -> Result<Piece, ApiError> {
        let stopped = || ApiError::internal("the server has stopped generating");
        let piece = self.receiver.recv().await.ok_or_else(stopped)?;
        let piece = piece.map_err(ApiError::internal)?;
        self.answer.count(&piece);
        if piece.finish.is_some() {
            self.open -= 1;
            if self.open == 0 {
                self.app.metrics.answered(self.started.elapsed());
            }
        }
        Ok(piece)
    }

    async fn whole(mut self) -> Result<Response, ApiError> {
        let mut pieces = BTreeMap::new();
        while self.open > 0 {
            let piece = self.next().await?;
            join(&mut pieces, piece);
        }
        let choices = pieces.values().map(|piece| self.choice(piece));
        let mut body = self.answer.with(choices.collect());
        body["usage"] = self.answer.usage();
        Ok(JsonBody(body).into_response())
    }

    fn choice(&self, piece: &Piece) -> Value {
        choice(piece, self.request.logprobs, &self.app.model.tokenizer)
    }

    /// The event of a piece, if it says anything; after the last one those that end the stream.
    fn events(&self, piece: &Piece) -> String {
        let mut events = String::new();
        let with_usage = self.request.include_usage;
        if piece.finish.is_some() || !piece.text.is_empty() || !piece.tokens.is_empty() {
            let mut part = self.answer.with(vec![self.choice(piece)]);
            if with_usage {
                part["usage"] = Value::Null;
            }
            events += &event(&part);
        }
        if self.open == 0 {
            if with_usage {
                let mut part = self.answer.with(Vec::new());
                part["usage"] = json!(self.answer.usage());
                events += &event(&part);
            }
            events += "data: [DONE]\n\n";
        }
        events
    }
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn stream(answering: Answering, first: Piece) -> Response {
    let events = answering.events(&first);
    let begun = (Some(answering), events);
    let parts = futures_util::stream::unfold(begun, |(answering, mut events)| async move {
        let mut answering = answering;
        while events.is_empty() {
            let mut open = answering.take().filter(|answering| answering.open > 0)?;
            match open.next().await {
                Ok(piece) => {
                    events = open.events(&piece);
                    answering = Some(open);
                }
                // What was sent cannot be taken back; the error ends the stream.
                Err(error) => events = event(&error.json()),
            }
        }
        let part = Ok::<_, Infallible>(Bytes::from(events));
        Some((part, (answering, String::new())))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    (headers, Body::from_stream(parts)).into_response()
}
