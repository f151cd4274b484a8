//! `grpc.health.v1` (MT-10): one service name, the empty one, and it serves.

use std::collections::HashMap;

use etcdrs_proto::health::health_check_response::ServingStatus;
use etcdrs_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::{Api, status};
use crate::grpc::{self, Body, Payload, Requests};

pub(crate) fn check(request: &HealthCheckRequest) -> Result<Payload, Status> {
    if !request.service.is_empty() {
        return Err(status::unknown_service());
    }
    Ok(Payload::message(&HealthCheckResponse { status: ServingStatus::Serving.into() }))
}

pub(crate) fn list() -> Payload {
    let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
    Payload::message(&HealthListResponse { statuses: HashMap::from([(String::new(), serving)]) })
}

impl Api {
    /// Tells the state once, and keeps the call open until the client leaves or the server stops.
    pub(crate) async fn health_watch(
        &self,
        method: usize,
        mut requests: Requests,
    ) -> Result<Body, Status> {
        let Some(raw) = requests.next().await? else {
            return Err(Status::internal("grpc: the call carried no message"));
        };
        let request: HealthCheckRequest = decode(&raw)?;
        let now = if request.service.is_empty() {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        let (sender, receiver) = grpc::channel(2);
        let api = self.clone();
        tokio::spawn(async move {
            let first = grpc::frame(&HealthCheckResponse { status: now.into() });
            let code = if sender.send(first).await {
                tokio::select! {
                    () = sender.closed() => Code::Cancelled,
                    () = api.stopping() => {
                        sender.fail(status::stopped()).await;
                        Code::Unavailable
                    }
                }
            } else {
                Code::Cancelled
            };
            api.metrics.rpcs.handled(method, code);
        });
        Ok(Body::stream(receiver))
    }
}
