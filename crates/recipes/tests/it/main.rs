//! One program for all tests of the crate's surface, because linking is what takes time.

mod archive;
mod dataset;
mod docs_dataset;
mod hub;
mod models;
mod support;
