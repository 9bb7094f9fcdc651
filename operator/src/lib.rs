//! The Kubernetes operator of Honeygraph; see [`cli`].

pub mod cli;
