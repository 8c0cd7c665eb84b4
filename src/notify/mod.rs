//! The notifying edge: who is told what, where and when. One file per sink.

pub mod sink;
