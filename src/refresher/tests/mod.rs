//! Tests of the refresher: tables per rule, and scenarios and properties in a simulated world.

mod fits;
mod groups;
mod obstacles;
mod passes;
mod property;
mod scenarios;
mod tables;
mod world;
