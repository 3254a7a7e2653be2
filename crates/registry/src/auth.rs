//! Who we are, to which registry.
