//! All integration tests, in one binary. They run Opsy as a user does, against the test bed, and assert on the state of
//! AWS, Git, the state directory and the API server afterwards.
#![allow(clippy::disallowed_methods, reason = "tests start processes, read clocks and environments")]

mod aws;
mod bed;
mod builder;
mod chat;
mod check;
mod cluster;
mod commands;
mod deploy;
mod example;
mod faults;
mod files;
mod forge;
mod git;
mod kills;
mod layouts;
mod limits;
mod live;
mod logs;
mod map;
mod network;
mod notify;
mod operator;
mod output;
mod packers;
mod plan;
mod policy;
mod processes;
mod refresher;
mod restart;
mod rollouts;
mod samples;
mod telemetry;
mod telling;
mod terminal;
mod trace;
mod trust;
mod wakes;
mod webhook;
mod whole;
mod world;
