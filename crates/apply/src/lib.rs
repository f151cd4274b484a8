//! The deterministic state machine: one committed request in, one outcome out
