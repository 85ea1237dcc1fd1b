//! The service's answers: who may ask, how much, and what comes back. It must not know how a check
//! is made.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::LengthLimitError;
use model::limits::{
    TIMEOUT_MAX_MS, VERIFIER_BATCH_MAX, VERIFIER_BODY_MAX_BYTES, VERIFIER_HEADROOM_MS,
};
use model::{Generation, Target, TargetId};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::executor::{Executor, Placed};
use super::judge::Place;
use crate::config::verifiers::Token;
use crate::verifier::protocol::{
    Agent, CHECK, CheckAnswer, CheckBatch, CheckResult, PROTOCOL, STATUS, Vantage,
};

/// Time for a whole request.
const READ: Duration = Duration::from_secs(30);
/// Longest name of a batch or of a check, in bytes: both come back.
const ID_MAX_BYTES: usize = 128;

/// What a stranger is told ends its connection: there are not many.
const LAST: [(HeaderName, &str); 1] = [(header::CONNECTION, "close")];

/// What every answer needs.
#[derive(Debug)]
pub(super) struct Service {
    /// What an asker must say.
    pub(super) token: Token,
    /// Where it looks from.
    pub(super) vantage: Vantage,
    /// Which process it is.
    pub(super) agent: Agent,
    /// What makes the checks.
    pub(super) executor: Arc<Executor>,
    /// Checks at one time, and those that may wait.
    pub(super) limits: (u32, u32),
}

/// Every path of the service.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(CHECK, post(check))
        .route(STATUS, get(status))
        .with_state(service)
}

impl Service {
    fn place(&self) -> Place {
        Place {
            vantage_id: self.vantage.id.clone(),
            agent_id: self.agent.id.clone(),
        }
    }

    /// Whether the asker has the token; in a time that does not tell how much of it is right.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        let secret = self.token.secret().as_bytes();
        given.is_some_and(|given| verify_slices_are_equal(given, secret).is_ok())
    }
}

/// A refusal, with the outcome that it means for every check.
fn refusal(code: StatusCode, outcome: &str, why: &str) -> Response {
    let body = json!({ "outcome": outcome, "error": why });
    (code, Json(body)).into_response()
}

fn stranger() -> Response {
    let why = "a bearer token is asked for";
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    let body = Json(json!({ "error": why }));
    (StatusCode::UNAUTHORIZED, challenge, LAST, body).into_response()
}

/// `GET /v2/status`: that it lives, for anybody; the rest for who may ask.
async fn status(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    if !service.knows(&headers) {
        return (LAST, Json(json!({ "status": "OK" }))).into_response();
    }
    let load = service.executor.load();
    let (concurrency, queue) = service.limits;
    Json(json!({
        "status": "OK",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("RINGWATCH_COMMIT"),
        "build_date": option_env!("RINGWATCH_BUILD_DATE"),
        "protocols": [PROTOCOL],
        "vantage": service.vantage,
        "agent": service.agent,
        "capacity": {
            "concurrency": concurrency,
            "queue": queue,
            "batch": VERIFIER_BATCH_MAX,
            "running": load.running,
            "queued": load.queued,
            "checks_total": load.done,
            "refused_total": load.refused,
        },
    }))
    .into_response()
}

/// `POST /v2/check`: who asks is looked at before anything is read.
async fn check(State(service): State<Arc<Service>>, request: Request) -> Response {
    if !service.knows(request.headers()) {
        return stranger();
    }
    let body = match timeout(READ, whole(request.into_body())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused,
        Err(_) => {
            return refusal(
                StatusCode::REQUEST_TIMEOUT,
                "unknown",
                "the body came too slowly",
            );
        }
    };
    let batch = match parse(&body) {
        Ok(batch) => batch,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, "unknown", &why),
    };
    answer(&service, batch).await
}

/// The whole body, or what it is refused with.
async fn whole(body: Body) -> Result<Bytes, Response> {
    to_bytes(body, VERIFIER_BODY_MAX_BYTES)
        .await
        .map_err(|error| {
            let too_long = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error + 'static>::is::<LengthLimitError>);
            if too_long {
                let why = "a request has at most 10 MiB";
                refusal(StatusCode::PAYLOAD_TOO_LARGE, "unknown", why)
            } else {
                refusal(
                    StatusCode::BAD_REQUEST,
                    "unknown",
                    "the body did not come whole",
                )
            }
        })
}

fn parse(body: &[u8]) -> Result<CheckBatch, String> {
    let batch: CheckBatch =
        serde_json::from_slice(body).map_err(|error| format!("not a batch ({error})"))?;
    if batch.requests.len() > VERIFIER_BATCH_MAX {
        return Err(format!("a batch has at most {VERIFIER_BATCH_MAX} requests"));
    }
    let ids = batch.requests.iter().map(|request| &request.request_id);
    if ids
        .chain([&batch.batch_id])
        .any(|id| id.len() > ID_MAX_BYTES)
    {
        return Err(format!("an id has at most {ID_MAX_BYTES} bytes"));
    }
    Ok(batch)
}

/// What is to be checked of `batch`, by place; what cannot be checked has its result already.
fn checks_of(batch: &CheckBatch, place: &Place) -> (Vec<Placed>, Vec<Option<CheckResult>>) {
    let mut checks: Vec<Placed> = Vec::with_capacity(batch.requests.len());
    let mut results = vec![None; batch.requests.len()];
    for (index, request) in batch.requests.iter().enumerate() {
        match request.parse() {
            Ok(config) => {
                let target = Target {
                    id: TargetId::new(1).expect("1 is an id"),
                    generation: Generation(1),
                    active: true,
                    config,
                };
                checks.push((index, Box::new(target)));
            }
            Err(error) => results[index] = Some(place.refused(request, &error.to_string())),
        }
    }
    (checks, results)
}

async fn answer(service: &Service, batch: CheckBatch) -> Response {
    let longest = u64::from(TIMEOUT_MAX_MS) + VERIFIER_HEADROOM_MS;
    let wanted = match batch.deadline_ms {
        0 => longest,
        wanted => wanted.min(longest),
    };
    let mut late = std::pin::pin!(sleep(Duration::from_millis(wanted)));
    let place = service.place();
    let (checks, mut results) = checks_of(&batch, &place);
    let asked = checks.len();
    let Some(mut reports) = service.executor.submit(checks) else {
        let why = "too many checks wait here: ask again later, or elsewhere";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "agent_overloaded", why);
    };
    let mut came = 0;
    while came < asked {
        let report = tokio::select! {
            biased;
            report = reports.recv() => report,
            () = &mut late => None,
        };
        let Some((index, report)) = report else { break };
        results[index] = Some(place.result(&batch.requests[index], &report));
        came += 1;
    }
    if came == 0 && asked > 0 && asked == batch.requests.len() {
        let why = "no check ended within the deadline";
        return refusal(StatusCode::GATEWAY_TIMEOUT, "unknown", why);
    }
    let why = "the check did not end within the deadline";
    let results = results.into_iter().zip(&batch.requests);
    let results = results
        .map(|(result, request)| result.unwrap_or_else(|| place.unknown(request, 0, why)))
        .collect();
    Json(CheckAnswer {
        batch_id: batch.batch_id,
        vantage: service.vantage.clone(),
        agent: service.agent.clone(),
        results,
    })
    .into_response()
}
