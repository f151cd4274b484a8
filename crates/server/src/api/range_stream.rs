//! `KV.RangeStream`: a range in chunks, all of one revision (v3-api.md §3.4).

use etcdrs_apply::range_query;
use etcdrs_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::pages::{Pace, Pages};
use crate::api::{Api, check, encode};
use crate::grpc::{self, Body, Requests, Sender};

/// Keys of the first chunk (RS-04).
const FIRST_KEYS: usize = 10;
/// Chunks that wait for the client to read.
const QUEUE: usize = 2;

impl Api {
    pub(crate) async fn range_stream(
        &self,
        method: usize,
        mut requests: Requests,
    ) -> Result<Body, Status> {
        let Some(raw) = requests.next().await? else {
            return Err(Status::internal("grpc: the call carried no message"));
        };
        let request: pb::RangeRequest = decode(&raw)?;
        check::range_stream(&request)?;
        if !request.serializable {
            self.barrier().await?;
        }
        let (sender, receiver) = grpc::channel(QUEUE);
        let api = self.clone();
        tokio::spawn(async move {
            let result = api.send_chunks(&request, &sender).await;
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            api.metrics.rpcs.handled(method, code);
            if let Err(status) = result {
                sender.fail(status).await;
            }
        });
        Ok(Body::stream(receiver))
    }

    async fn send_chunks(&self, request: &pb::RangeRequest, sender: &Sender) -> Result<(), Status> {
        let pinned = self.state.reader.current_revision();
        let header = self.header(pinned);
        let page_bytes = self.settings.request_bytes_max;
        let pace = Pace { first_keys: FIRST_KEYS, page_bytes };
        let query = range_query(request);
        let mut pages = Pages::new(self.state.reader.clone(), query, pinned, pace);
        loop {
            let (back, page) = pages.next().await?;
            pages = back;
            let Some(page) = page else { return Ok(()) };
            let last = page.end.map(|(more, count)| (&header, more, count));
            if !sender.send(encode::range_chunk(&page.kvs, last)).await {
                return Ok(());
            }
        }
    }
}
