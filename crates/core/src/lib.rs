//! The layer, driver and graph contracts of graphdriver, and what every driver shares.
