//! The studio's API for programs on the same machine: blocking, typed, over plain HTTP on loopback.
//!
//! [`Client::connect`] finds the studio of a home through its [`Endpoint`] file. Nothing here starts a thread or a
//! runtime, so a short-lived program pays only for the request.

mod accounts;
mod client;
mod endpoint;
mod error;
mod event;
mod remote;
#[cfg(feature = "testing")]
pub mod testing;

pub use accounts::AuditQuery;
pub use client::{Client, Download, TaskFilter};
pub use endpoint::{Endpoint, ProcessId};
pub use error::{ClientError, Result};
pub use event::{Event, EventStream, LogEvent, LogStream};
