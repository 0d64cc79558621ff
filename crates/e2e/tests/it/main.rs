//! The real `sage` in a temporary home, with real processes and real signals.

mod cards;
mod crash;
mod demo;
mod durability;
mod gpus;
mod host_memory;
mod machine;
mod order;
mod packing;
mod people;
mod plan;
mod queue;
mod refusals;
mod retries;
mod support;
