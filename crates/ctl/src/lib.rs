//! etcdctl-rs: administer etcd and etcd-rs from the command line
