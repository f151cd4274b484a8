//! The changes of users and roles. Each writes its rows into the batch of the entry that asks for
//! it; a refused one changes nothing.

use bytes::Bytes;
use etcdrs_backend::{Batch, Bucket};
use etcdrs_proto::authpb::{Permission, Role, User, UserAddOptions};
use etcdrs_types::KeyRange;

use super::{AuthStore, KEY_ENABLED, ROOT};
use crate::error::Refused;

impl AuthStore {
    /// AuthEnable (AU-01). Nothing happens if auth is on.
    ///
    /// # Errors
    ///
    /// [`Refused::RootUserNotExist`], [`Refused::RootRoleNotExist`].
    pub fn enable(&mut self, batch: &mut Batch) -> Result<(), Refused> {
        if self.enabled {
            return Ok(());
        }
        if !self.users.contains_key(ROOT) {
            return Err(Refused::RootUserNotExist);
        }
        if !self.is_root(ROOT) {
            return Err(Refused::RootRoleNotExist);
        }
        self.enabled = true;
        batch.put(Bucket::Auth, KEY_ENABLED, &[1]);
        Ok(())
    }

    /// AuthDisable (AU-02); whether auth was on. Tokens are the caller's to forget.
    pub fn disable(&mut self, batch: &mut Batch) -> bool {
        if !self.enabled {
            return false;
        }
        self.enabled = false;
        batch.put(Bucket::Auth, KEY_ENABLED, &[0]);
        self.bump(batch);
        true
    }

    /// UserAdd (AU-05). `hash` is the hashed password; a user without a password has none.
    ///
    /// # Errors
    ///
    /// [`Refused::UserEmpty`], [`Refused::UserAlreadyExist`].
    pub fn add_user(
        &mut self,
        batch: &mut Batch,
        name: &str,
        hash: Bytes,
        options: Option<UserAddOptions>,
    ) -> Result<(), Refused> {
        if name.is_empty() {
            return Err(Refused::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refused::UserAlreadyExist);
        }
        let without = options.is_some_and(|options| options.no_password);
        let user = User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: if without { Bytes::new() } else { hash },
            roles: Vec::new(),
            options: Some(options.unwrap_or_default()),
        };
        self.users.insert(name.to_owned(), user);
        self.write_user(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// UserDelete (AU-07). Tokens are the caller's to forget.
    ///
    /// # Errors
    ///
    /// [`Refused::InvalidAuthMgmt`], [`Refused::UserNotFound`].
    pub fn delete_user(&mut self, batch: &mut Batch, name: &str) -> Result<(), Refused> {
        if self.enabled && name == ROOT {
            return Err(Refused::InvalidAuthMgmt);
        }
        self.users.remove(name).ok_or(Refused::UserNotFound)?;
        self.write_user(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// UserChangePassword (AU-06). Tokens are the caller's to forget.
    ///
    /// # Errors
    ///
    /// [`Refused::UserNotFound`].
    pub fn change_password(
        &mut self,
        batch: &mut Batch,
        name: &str,
        hash: Bytes,
    ) -> Result<(), Refused> {
        let user = self.users.get_mut(name).ok_or(Refused::UserNotFound)?;
        let without = user.options.is_some_and(|options| options.no_password);
        user.password = if without { Bytes::new() } else { hash };
        self.write_user(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// UserGrantRole (AU-08). A role that the user holds is granted again without a change.
    ///
    /// # Errors
    ///
    /// [`Refused::UserNotFound`], [`Refused::RoleNotFound`].
    pub fn grant_role(&mut self, batch: &mut Batch, name: &str, role: &str) -> Result<(), Refused> {
        let known = role == ROOT || self.roles.contains_key(role);
        let user = self.users.get_mut(name).ok_or(Refused::UserNotFound)?;
        if !known {
            return Err(Refused::RoleNotFound);
        }
        let Err(at) = user.roles.binary_search_by(|held| held.as_str().cmp(role)) else {
            return Ok(());
        };
        user.roles.insert(at, role.to_owned());
        self.write_user(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// UserRevokeRole (AU-09).
    ///
    /// # Errors
    ///
    /// [`Refused::InvalidAuthMgmt`], [`Refused::UserNotFound`], [`Refused::RoleNotGranted`].
    pub fn revoke_role(
        &mut self,
        batch: &mut Batch,
        name: &str,
        role: &str,
    ) -> Result<(), Refused> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(Refused::InvalidAuthMgmt);
        }
        let user = self.users.get_mut(name).ok_or(Refused::UserNotFound)?;
        let held = user.roles.iter().position(|held| held == role);
        user.roles.remove(held.ok_or(Refused::RoleNotGranted)?);
        self.write_user(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// RoleAdd (AU-10).
    ///
    /// # Errors
    ///
    /// [`Refused::RoleEmpty`], [`Refused::RoleAlreadyExist`].
    pub fn add_role(&mut self, batch: &mut Batch, name: &str) -> Result<(), Refused> {
        if name.is_empty() {
            return Err(Refused::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refused::RoleAlreadyExist);
        }
        let record =
            Role { name: Bytes::copy_from_slice(name.as_bytes()), key_permission: Vec::new() };
        self.roles.insert(name.to_owned(), record);
        self.write_role(batch, name);
        self.bump(batch);
        Ok(())
    }

    /// RoleDelete: nobody holds it any more (AU-10).
    ///
    /// # Errors
    ///
    /// [`Refused::InvalidAuthMgmt`], [`Refused::RoleNotFound`].
    pub fn delete_role(&mut self, batch: &mut Batch, name: &str) -> Result<(), Refused> {
        if self.enabled && name == ROOT {
            return Err(Refused::InvalidAuthMgmt);
        }
        self.roles.remove(name).ok_or(Refused::RoleNotFound)?;
        self.write_role(batch, name);
        for holder in self.holders(name) {
            if let Some(user) = self.users.get_mut(&holder) {
                user.roles.retain(|role| role != name);
            }
            self.write_user(batch, &holder);
        }
        self.bump(batch);
        Ok(())
    }

    /// RoleGrantPermission (AU-31). As in etcd only the first permission with the same key is
    /// looked at for a replacement (AU-32).
    ///
    /// # Errors
    ///
    /// [`Refused::PermissionNotGiven`], [`Refused::InvalidAuthMgmt`], [`Refused::RoleNotFound`].
    pub fn grant_permission(
        &mut self,
        batch: &mut Batch,
        name: &str,
        permission: Option<Permission>,
    ) -> Result<(), Refused> {
        let permission = permission.ok_or(Refused::PermissionNotGiven)?;
        let range = KeyRange::from_wire(permission.key.clone(), permission.range_end.clone());
        if permission.key.is_empty() || range.is_empty() {
            return Err(Refused::InvalidAuthMgmt);
        }
        let role = self.roles.get_mut(name).ok_or(Refused::RoleNotFound)?;
        let held = &mut role.key_permission;
        let first = held.partition_point(|other| other.key < permission.key);
        match held.get_mut(first) {
            Some(other)
                if (&other.key, &other.range_end) == (&permission.key, &permission.range_end) =>
            {
                other.perm_type = permission.perm_type;
            }
            _ => {
                let after = held.partition_point(|other| other.key <= permission.key);
                held.insert(after, permission);
            }
        }
        self.role_changed(batch, name);
        Ok(())
    }

    /// RoleRevokePermission (AU-33).
    ///
    /// # Errors
    ///
    /// [`Refused::RoleNotFound`], [`Refused::PermissionNotGranted`].
    pub fn revoke_permission(
        &mut self,
        batch: &mut Batch,
        name: &str,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), Refused> {
        let role = self.roles.get_mut(name).ok_or(Refused::RoleNotFound)?;
        let before = role.key_permission.len();
        role.key_permission.retain(|held| held.key != key || held.range_end != range_end);
        if role.key_permission.len() == before {
            return Err(Refused::PermissionNotGranted);
        }
        self.role_changed(batch, name);
        Ok(())
    }

    fn role_changed(&mut self, batch: &mut Batch, name: &str) {
        self.write_role(batch, name);
        for holder in self.holders(name) {
            self.derive(&holder);
        }
        self.bump(batch);
    }
}
