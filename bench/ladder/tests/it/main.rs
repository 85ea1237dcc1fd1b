//! The built programs together, seen from outside: the farm breaks, `ringwatch` judges.

mod capacity;
mod classes;
mod clock;
mod farm;
mod memory;
mod page;
mod places;
mod programs;
mod row;
mod table;
