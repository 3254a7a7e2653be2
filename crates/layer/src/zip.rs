//! The strict zip reader.
