//! Tests of the refresher: tables per rule, and scenarios and properties in a simulated world.

mod checks;
mod cluster;
mod drains;
mod driving;
mod fits;
mod groups;
mod obstacles;
mod own;
mod own_nodes;
mod passes;
mod policies;
mod previews;
mod property;
mod rollbacks;
mod scenarios;
mod schedule;
mod self_managed;
mod tables;
mod waves;
mod world;
