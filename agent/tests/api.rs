//! The API of whole running nodes, over real sockets: what unit tests of the routers cannot see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod api {
    mod limits;
    mod peers;
    mod status;
}
