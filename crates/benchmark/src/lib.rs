//! Load generator in the manner of etcd's benchmark tool
