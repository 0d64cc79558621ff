//! One program for all tests of the crate's surface, because linking is what takes time.

mod archive;
mod dataset;
mod docs_dataset;
mod estimate;
mod fit;
mod hub;
mod models;
mod peft;
mod support;
