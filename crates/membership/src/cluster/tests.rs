//! Tests of the cluster against a real database.
