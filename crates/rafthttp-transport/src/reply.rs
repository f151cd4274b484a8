//! Answers as Go's HTTP server words them.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

/// Why a request is not answered as it wished.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Only this method is allowed.
    Method(Method),
    /// A line of text.
    Text(StatusCode, Cow<'static, str>),
    /// etcd's JSON error.
    Message(StatusCode, &'static str),
}

impl Refusal {
    pub(crate) fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(status, text.into())
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Method(allow) => wrong_method(Some(allow)),
            Refusal::Text(status, line) => text(status, &line),
            Refusal::Message(status, what) => message(status, what),
        }
    }
}

/// A line of text with a status, as Go's `http.Error` writes it.
pub(crate) fn text(status: StatusCode, text: &str) -> Response {
    let mut response = with_type(status, "text/plain; charset=utf-8", format!("{text}\n").into());
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// etcd's JSON error.
pub(crate) fn message(status: StatusCode, text: &str) -> Response {
    #[derive(Serialize)]
    struct Message<'a> {
        message: &'a str,
    }
    json(status, &Message { message: text }, "")
}

/// A value as JSON, with `end` behind it.
pub(crate) fn json(status: StatusCode, value: &impl Serialize, end: &str) -> Response {
    let body = serde_json::to_string(value).expect("answers have string keys and no failing parts");
    with_type(status, "application/json", (body + end).into())
}

pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Refuses a method; `allow` is absent where etcd leaves it out.
pub(crate) fn wrong_method(allow: Option<Method>) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(allow) = allow {
        let allow = HeaderValue::from_str(allow.as_str()).expect("a method is a header value");
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

pub(crate) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found")
}

/// The text of an answer, without the line break that Go puts behind it.
pub(crate) fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}

/// Value of a header that is text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
