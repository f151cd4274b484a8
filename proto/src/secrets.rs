//! `Debug` for messages that hold passwords, tokens or hashes.
//!
//! Requests end up in logs and error texts; a derived `Debug` would put passwords there.

use std::fmt;

use crate::authpb::User;
use crate::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest,
    InternalAuthenticateRequest,
};

/// Implements `Debug` with the named fields shown and a mark that there is more.
macro_rules! debug_without_secrets {
    ($message:ident: $($field:ident),+) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut shown = f.debug_struct(stringify!($message));
                $(shown.field(stringify!($field), &self.$field);)+
                shown.finish_non_exhaustive()
            }
        }
    };
}

debug_without_secrets!(User: name, roles, options);
debug_without_secrets!(AuthenticateRequest: name);
debug_without_secrets!(AuthUserAddRequest: name, options);
debug_without_secrets!(AuthUserChangePasswordRequest: name);
debug_without_secrets!(InternalAuthenticateRequest: name);
