//! The notifying edge: who is told what, where and when. One file per sink.

mod blocks;
pub mod http;
pub mod sink;
pub mod slack;
mod text;

#[cfg(test)]
mod tests;
