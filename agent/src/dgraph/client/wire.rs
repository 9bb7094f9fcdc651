//! Messages of Dgraph's gRPC service `api.Dgraph`, as far as they are used here. The numbers are those of
//! its interface definition (`api.proto` of its Go client, v250).

use std::collections::HashMap;
use std::fmt;

/// What a request for uids names in [`AllocateIdsRequest::lease_type`].
pub(super) const LEASE_OF_UIDS: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(uint64, tag = "1")]
    pub(super) start_ts: u64,
    #[prost(string, tag = "4")]
    pub(super) query: String,
    #[prost(map = "string, string", tag = "5")]
    pub(super) vars: HashMap<String, String>,
    #[prost(bool, tag = "6")]
    pub(super) read_only: bool,
    #[prost(bool, tag = "7")]
    pub(super) best_effort: bool,
    #[prost(message, repeated, tag = "12")]
    pub(super) mutations: Vec<Mutation>,
    #[prost(bool, tag = "13")]
    pub(super) commit_now: bool,
    /// Binds `start_ts` to the namespace where access control is on.
    #[prost(string, tag = "15")]
    pub(super) hash: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) json: bytes::Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) txn: Option<TxnContext>,
    #[prost(map = "string, string", tag = "12")]
    pub(super) uids: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Mutation {
    #[prost(message, repeated, tag = "5")]
    pub(super) set: Vec<NQuad>,
    #[prost(message, repeated, tag = "6")]
    pub(super) del: Vec<NQuad>,
    #[prost(string, tag = "9")]
    pub(super) cond: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NQuad {
    #[prost(string, tag = "1")]
    pub(super) subject: String,
    #[prost(string, tag = "2")]
    pub(super) predicate: String,
    #[prost(string, tag = "3")]
    pub(super) object_id: String,
    #[prost(message, optional, tag = "4")]
    pub(super) object_value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(oneof = "Typed", tags = "1, 3, 4, 5, 6")]
    pub(super) typed: Option<Typed>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Typed {
    /// Converted to what the schema says.
    #[prost(string, tag = "1")]
    Default(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(bool, tag = "4")]
    Boolean(bool),
    #[prost(string, tag = "5")]
    Text(String),
    #[prost(double, tag = "6")]
    Float(f64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Operation {
    #[prost(string, tag = "1")]
    pub(super) schema: String,
    #[prost(string, tag = "2")]
    pub(super) drop_attr: String,
    #[prost(bool, tag = "3")]
    pub(super) drop_all: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnContext {
    #[prost(uint64, tag = "1")]
    pub(super) start_ts: u64,
    #[prost(uint64, tag = "2")]
    pub(super) commit_ts: u64,
    #[prost(bool, tag = "3")]
    pub(super) aborted: bool,
    /// What the transaction wrote, for conflicts.
    #[prost(string, repeated, tag = "4")]
    pub(super) keys: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(super) preds: Vec<String>,
    #[prost(string, tag = "6")]
    pub(super) hash: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Check {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Version {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct LoginRequest {
    #[prost(string, tag = "1")]
    pub(super) userid: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
    #[prost(string, tag = "3")]
    pub(super) refresh_token: String,
    #[prost(uint64, tag = "4")]
    pub(super) namespace: u64,
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LoginRequest")
            .field("userid", &self.userid)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// What [`Response::json`] of a login holds.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct Jwt {
    #[prost(string, tag = "1")]
    pub(super) access_jwt: String,
    #[prost(string, tag = "2")]
    pub(super) refresh_jwt: String,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jwt").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AllocateIdsRequest {
    #[prost(uint64, tag = "1")]
    pub(super) how_many: u64,
    #[prost(int32, tag = "2")]
    pub(super) lease_type: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AllocateIdsResponse {
    #[prost(uint64, tag = "1")]
    pub(super) start: u64,
    #[prost(uint64, tag = "2")]
    pub(super) end: u64,
}
