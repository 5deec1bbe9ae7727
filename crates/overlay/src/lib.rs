//! The overlay driver of graphdriver: on-disk layout of containers/storage overlay and Docker overlay2.
