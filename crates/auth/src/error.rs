//! What can be refused, and what can be wrong with the rows.

/// A refusal. The texts are etcd's without their prefix (v3-api.md §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Auth cannot be switched on.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// Auth cannot be switched on.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// A new user has the name of an old one.
    #[error("user name already exists")]
    UserAlreadyExist,
    /// A user without a name, or a request that nobody stands for.
    #[error("user name is empty")]
    UserEmpty,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// A new role has the name of an old one.
    #[error("role name already exists")]
    RoleAlreadyExist,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// A role without a name.
    #[error("role name is empty")]
    RoleEmpty,
    /// Wrong user or password.
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A grant of nothing.
    #[error("permission not given")]
    PermissionNotGiven,
    /// Not allowed.
    #[error("permission denied")]
    PermissionDenied,
    /// A role is to be taken that the user has not.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// A permission is to be taken that the role has not.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// Nobody can log in while auth is off.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// The token says nothing to this member.
    #[error("invalid auth token")]
    InvalidAuthToken,
    /// It would lock everybody out, or the range of a permission is none.
    #[error("invalid auth management")]
    InvalidAuthMgmt,
    /// Users or roles changed since the request was let in.
    #[error("revision of auth store is old")]
    AuthOldRevision,
    /// A password was given for a user who has none.
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
}

/// Why [`AuthStore::open`](crate::AuthStore::open) failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database could not be read.
    #[error("read users and roles")]
    Backend(#[from] etcdrs_backend::Error),
    /// A row does not hold what it should.
    #[error("corrupt row {key:?} of bucket {bucket}")]
    Row {
        /// The bucket.
        bucket: &'static str,
        /// The row's key.
        key: String,
    },
}
