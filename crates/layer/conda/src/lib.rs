//! Conda packages become trees.
