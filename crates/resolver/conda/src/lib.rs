//! Conda locks and conda's solver, read with the rattler crates.
