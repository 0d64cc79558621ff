//! The real `sage` in a temporary home, with real processes and real signals.

mod crash;
mod demo;
mod gpus;
mod order;
mod queue;
mod refusals;
mod support;
