//! Leases: grant, renew, attach, expire
