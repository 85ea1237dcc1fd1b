//! The built programs together, seen from outside: the farm breaks, `ringwatch` judges.

mod capacity;
mod classes;
mod clock;
mod farm;
#[path = "../../src/figures.rs"]
mod figures;
mod memory;
mod page;
mod places;
mod programs;
mod row;
mod table;
