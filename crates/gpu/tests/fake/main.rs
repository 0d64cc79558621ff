//! NVIDIA GPUs through the whole chain, worker process and all, with `fakegpu` in the place of the driver.

mod doctor;
mod machine;
mod readings;
mod trials;
mod worker;
