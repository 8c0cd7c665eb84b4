//! The API server away.
