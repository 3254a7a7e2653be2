//! The `imgforge` program.

fn main() {}
