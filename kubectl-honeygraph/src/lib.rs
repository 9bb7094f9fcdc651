//! `kubectl honeygraph`: where nodes stand, what is wrong, and what to do.
//!
//! What is shown is made of what was seen by pure functions: [`status`], [`gaps`], [`peers`], [`sync`] and [`doctor`] each
//! have a report, which `-o json` and `-o yaml` print, and a screen of it. [`cluster`] is what speaks to the API server and
//! to agents.

pub mod advice;
pub mod cli;
pub mod cluster;
pub mod doctor;
pub mod gaps;
pub mod logs;
pub mod output;
pub mod paint;
pub mod peers;
pub mod sight;
pub mod status;
pub mod sync;
mod text;

#[cfg(test)]
mod fixtures;
