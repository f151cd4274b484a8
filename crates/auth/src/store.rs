//! Users and roles, as committed entries make them.

use std::collections::{BTreeMap, BTreeSet};

use etcdrs_backend::{Backend, Batch, Bucket, Scan};
use etcdrs_proto::authpb::{Permission, Role, User, permission::Type};
use etcdrs_types::KeyRange;
use prost::Message as _;

use crate::error::{OpenError, Refused};
use crate::grants::Grants;
use crate::needs::{LeaseKeys, Need};

/// The name of the user and of the role that may do everything.
pub const ROOT: &str = "root";

/// Row of [`Bucket::Auth`]: one byte, 1 while auth is on.
const KEY_ENABLED: &[u8] = b"authEnabled";
/// Row of [`Bucket::Auth`]: the revision, 8 bytes, big-endian.
const KEY_REVISION: &[u8] = b"authRevision";
/// The revision of a store that nothing happened to (AU-01).
const FIRST_REVISION: u64 = 1;

/// Who asks, and how new the auth data was when that was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user; empty for nobody.
    pub user: String,
    /// The auth revision; 0 for nobody.
    pub revision: u64,
}

/// What a user's record says of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password<'a> {
    /// The hash to compare with.
    Hash(&'a [u8]),
    /// The user has none and logs in by certificate only.
    None,
}

/// Users, roles, whether auth is on, and the auth revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthStore {
    enabled: bool,
    /// 0 stands for [`FIRST_REVISION`] without a row.
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// What each user's roles grant together.
    grants: BTreeMap<String, Grants>,
}

fn corrupt(bucket: Bucket, key: &[u8]) -> OpenError {
    OpenError::Row { bucket: bucket.name(), key: String::from_utf8_lossy(key).into_owned() }
}

fn name(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

impl AuthStore {
    /// Reads the store of a database; an empty database gives an empty store.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the buckets cannot be read or hold something else.
    pub fn open(backend: &Backend) -> Result<Self, OpenError> {
        let mut store = Self::default();
        let mut rows = backend.rows(Bucket::AuthUsers, &Scan::all());
        while let Some((key, value)) = rows.next()? {
            let user = User::decode(value).map_err(|_| corrupt(Bucket::AuthUsers, key))?;
            let name = name(key).filter(|_| user.name == key);
            let name = name.ok_or_else(|| corrupt(Bucket::AuthUsers, key))?;
            store.users.insert(name, user);
        }
        let mut rows = backend.rows(Bucket::AuthRoles, &Scan::all());
        while let Some((key, value)) = rows.next()? {
            let role = Role::decode(value).map_err(|_| corrupt(Bucket::AuthRoles, key))?;
            let name = name(key).filter(|_| role.name == key);
            let name = name.ok_or_else(|| corrupt(Bucket::AuthRoles, key))?;
            store.roles.insert(name, role);
        }
        store.enabled = match backend.get(Bucket::Auth, KEY_ENABLED)?.as_deref() {
            None | Some([0]) => false,
            Some([1]) => true,
            Some(_) => return Err(corrupt(Bucket::Auth, KEY_ENABLED)),
        };
        if let Some(row) = backend.get(Bucket::Auth, KEY_REVISION)? {
            let bytes = row.as_ref().try_into();
            let bytes = bytes.map_err(|_| corrupt(Bucket::Auth, KEY_REVISION))?;
            store.revision = u64::from_be_bytes(bytes);
        }
        store.derive_all();
        Ok(store)
    }

    /// Whether auth is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes (AU-03).
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.max(FIRST_REVISION)
    }

    /// Whether the user holds the role root (AU-11).
    #[must_use]
    pub fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.iter().any(|role| role == ROOT))
    }

    /// A user's password; `None` if there is no such user.
    #[must_use]
    pub fn password(&self, user: &str) -> Option<Password<'_>> {
        let user = self.users.get(user)?;
        let without = user.options.is_some_and(|options| options.no_password);
        Some(if without { Password::None } else { Password::Hash(&user.password) })
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// The names of all roles, sorted.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// A user's roles, sorted.
    ///
    /// # Errors
    ///
    /// [`Refused::UserNotFound`].
    pub fn user_roles(&self, user: &str) -> Result<&[String], Refused> {
        self.users.get(user).map(|user| &user.roles[..]).ok_or(Refused::UserNotFound)
    }

    /// A role's permissions, sorted by key. The role root has all of them, if its record exists
    /// (AU-10).
    ///
    /// # Errors
    ///
    /// [`Refused::RoleNotFound`].
    pub fn role_permissions(&self, role: &str) -> Result<Vec<Permission>, Refused> {
        let record = self.roles.get(role).ok_or(Refused::RoleNotFound)?;
        if role == ROOT {
            let perm_type = Type::Readwrite as i32;
            let range_end = vec![0].into();
            return Ok(vec![Permission { perm_type, key: Default::default(), range_end }]);
        }
        Ok(record.key_permission.clone())
    }

    /// Whether `who` has what a request needs. Everything is allowed while auth is off.
    ///
    /// # Errors
    ///
    /// Why not (AU-36, AU-47, AU-48).
    pub fn allows(
        &self,
        who: &Identity,
        need: &Need,
        leases: &impl LeaseKeys,
    ) -> Result<(), Refused> {
        if !self.enabled {
            return Ok(());
        }
        if who.user.is_empty() || who.revision == 0 {
            return Err(Refused::UserEmpty);
        }
        match need {
            Need::Somebody => return Ok(()),
            Need::Root => return self.must_be_root(&who.user),
            Need::User(name) if *name == who.user => return Ok(()),
            Need::Role(role) if self.holds(&who.user, role) => return Ok(()),
            Need::User(_) | Need::Role(_) => return self.must_be_root(&who.user),
            Need::Read(_) | Need::Write(_) | Need::ReadLease(_) | Need::WriteLease(_) => {}
        }
        if who.revision < self.revision() {
            return Err(Refused::AuthOldRevision);
        }
        let Some(grants) = self.grants.get(&who.user) else {
            return Err(Refused::PermissionDenied);
        };
        let single = |key| KeyRange::single(key);
        let allowed = self.is_root(&who.user)
            || match need {
                Need::Read(range) => grants.may_read(range),
                Need::Write(range) => grants.may_write(range),
                Need::ReadLease(lease) => {
                    leases.keys(*lease).into_iter().all(|key| grants.may_read(&single(key)))
                }
                Need::WriteLease(lease) => {
                    leases.keys(*lease).into_iter().all(|key| grants.may_write(&single(key)))
                }
                Need::Somebody | Need::Root | Need::User(_) | Need::Role(_) => false,
            };
        if allowed { Ok(()) } else { Err(Refused::PermissionDenied) }
    }

    fn must_be_root(&self, user: &str) -> Result<(), Refused> {
        if !self.users.contains_key(user) {
            return Err(Refused::UserNotFound);
        }
        if self.is_root(user) { Ok(()) } else { Err(Refused::PermissionDenied) }
    }

    fn holds(&self, user: &str, role: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.iter().any(|held| held == role))
    }

    fn derive(&mut self, user: &str) {
        let Some(record) = self.users.get(user) else {
            self.grants.remove(user);
            return;
        };
        let roles = record.roles.iter().filter_map(|role| self.roles.get(role));
        let grants = Grants::of(roles.flat_map(|role| &role.key_permission));
        self.grants.insert(user.to_owned(), grants);
    }

    fn derive_all(&mut self) {
        self.grants.clear();
        for user in self.users.keys().cloned().collect::<Vec<_>>() {
            self.derive(&user);
        }
    }

    fn bump(&mut self, batch: &mut Batch) {
        self.revision = self.revision() + 1;
        batch.put(Bucket::Auth, KEY_REVISION, &self.revision.to_be_bytes());
    }

    fn write_user(&mut self, batch: &mut Batch, name: &str) {
        match self.users.get(name) {
            Some(user) => batch.put(Bucket::AuthUsers, name.as_bytes(), &user.encode_to_vec()),
            None => batch.delete(Bucket::AuthUsers, name.as_bytes()),
        }
        self.derive(name);
    }

    fn write_role(&mut self, batch: &mut Batch, name: &str) {
        match self.roles.get(name) {
            Some(role) => batch.put(Bucket::AuthRoles, name.as_bytes(), &role.encode_to_vec()),
            None => batch.delete(Bucket::AuthRoles, name.as_bytes()),
        }
    }

    /// The users that hold `role`.
    fn holders(&self, role: &str) -> BTreeSet<String> {
        let holding = self.users.iter().filter(|(_, user)| user.roles.iter().any(|r| r == role));
        holding.map(|(name, _)| name.clone()).collect()
    }
}

mod change;
#[cfg(test)]
mod tests;
