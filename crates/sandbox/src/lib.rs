//! One command in a root filesystem made of layers, with no network.
