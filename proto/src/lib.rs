//! etcd's protobuf messages and gRPC stubs, generated from our own .proto files
