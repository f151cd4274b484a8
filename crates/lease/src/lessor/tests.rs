//! Tests of the lessor.
