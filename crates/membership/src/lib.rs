//! Members of a cluster: ids, records, versions
