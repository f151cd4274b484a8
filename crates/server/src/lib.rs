//! The etcd-rs server: gRPC and HTTP services, configuration, wiring
