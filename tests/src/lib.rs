//! Cluster harness, conformance, differential and crash tests
