//! What names an image in a registry.
