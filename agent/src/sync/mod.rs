//! To come.

pub mod verify;
