//! The refresher's tests: tables for each rule, scenarios and properties in a simulated world.

mod fits;
mod groups;
mod others;
mod passes;
mod property;
mod scenarios;
mod tables;
mod world;
