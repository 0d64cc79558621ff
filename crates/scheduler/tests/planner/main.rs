//! What the planner promises. [`properties`] must hold for every queue on every machine ([`moments`] draws them); the rest
//! shows single rules at work.

mod batch;
mod build;
mod forecast;
mod moments;
mod order;
mod placing;
mod properties;
mod quotas;
mod reserving;
mod stopping;
mod waits;
