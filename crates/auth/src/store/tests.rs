//! Users, roles and permissions by the rules of v3-api.md §3.14.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcdrs_backend::Options;
use etcdrs_proto::authpb::UserAddOptions;
use etcdrs_types::LeaseId;

use super::*;

#[derive(Default)]
struct Leases(BTreeMap<i64, Vec<Bytes>>);

impl LeaseKeys for Leases {
    fn keys(&self, lease: LeaseId) -> Vec<Bytes> {
        self.0.get(&lease.0).cloned().unwrap_or_default()
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    backend: Backend,
    store: AuthStore,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let backend = Backend::open(&dir.path().join("db"), &Options::default()).expect("backend");
        let store = AuthStore::open(&backend).expect("empty store");
        Self { _dir: dir, backend, store }
    }

    /// Makes a change, and checks that what a restart reads is what is in memory, and that the
    /// revision moves with success alone.
    fn change<T>(&mut self, edit: impl FnOnce(&mut AuthStore, &mut Batch) -> T) -> T {
        let mut batch = self.backend.batch();
        let result = edit(&mut self.store, &mut batch);
        self.backend.write(batch).expect("written");
        assert_eq!(AuthStore::open(&self.backend).expect("opens"), self.store);
        result
    }

    fn user(&mut self, name: &str, roles: &[&str]) {
        self.change(|store, batch| {
            store.add_user(batch, name, "hash".into(), None).expect("added");
            for role in roles {
                store.grant_role(batch, name, role).expect("granted");
            }
        });
    }

    fn role(&mut self, name: &str, permissions: &[(Type, &str, &str)]) {
        self.change(|store, batch| {
            store.add_role(batch, name).expect("added");
            for (kind, key, end) in permissions {
                store.grant_permission(batch, name, permission(*kind, key, end)).expect("granted");
            }
        });
    }

    /// With auth on, and root.
    fn on() -> Self {
        let mut fixture = Self::new();
        fixture.user(ROOT, &[ROOT]);
        fixture.change(AuthStore::enable).expect("enabled");
        fixture
    }

    fn who(&self, user: &str) -> Identity {
        Identity { user: user.to_owned(), revision: self.store.revision() }
    }

    fn asks(&self, user: &str, need: Need) -> Result<(), Refused> {
        self.store.allows(&self.who(user), &need, &Leases::default())
    }
}

fn permission(kind: Type, key: &str, end: &str) -> Option<Permission> {
    Some(Permission {
        perm_type: kind as i32,
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
    })
}

fn range(key: &str, end: &str) -> KeyRange {
    KeyRange::from_wire(key.to_owned().into(), end.to_owned().into())
}

#[test]
fn au_01_02_row_121_switching() {
    let mut fixture = Fixture::new();
    assert_eq!((fixture.store.is_enabled(), fixture.store.revision()), (false, 1));
    assert_eq!(fixture.change(AuthStore::enable), Err(Refused::RootUserNotExist));
    fixture.user(ROOT, &[]);
    assert_eq!(fixture.change(AuthStore::enable), Err(Refused::RootRoleNotExist));
    fixture.change(|store, batch| store.grant_role(batch, ROOT, ROOT)).expect("no record needed");
    let before = fixture.store.revision();
    fixture.change(AuthStore::enable).expect("enabled");
    fixture.change(AuthStore::enable).expect("again");
    assert_eq!((fixture.store.is_enabled(), fixture.store.revision()), (true, before));
    assert!(fixture.change(AuthStore::disable));
    assert!(!fixture.change(AuthStore::disable));
    assert_eq!((fixture.store.is_enabled(), fixture.store.revision()), (false, before + 1));
    assert_eq!(fixture.asks("", Need::Root), Ok(()), "while off everything goes");
}

#[test]
fn au_03_row_122_the_revision_counts_changes_alone() {
    let mut fixture = Fixture::new();
    let mut expected = 1;
    let mut step = |fixture: &mut Fixture, more: u64, edit: fn(&mut AuthStore, &mut Batch)| {
        fixture.change(edit);
        expected += more;
        assert_eq!(fixture.store.revision(), expected);
    };
    step(&mut fixture, 1, |s, b| s.add_user(b, "u", "h".into(), None).expect("ok"));
    step(&mut fixture, 0, |s, b| {
        assert_eq!(s.add_user(b, "u", "h".into(), None), Err(Refused::UserAlreadyExist));
    });
    step(&mut fixture, 1, |s, b| s.change_password(b, "u", "i".into()).expect("ok"));
    step(&mut fixture, 1, |s, b| s.add_role(b, "r").expect("ok"));
    step(&mut fixture, 1, |s, b| s.grant_role(b, "u", "r").expect("ok"));
    step(&mut fixture, 0, |s, b| s.grant_role(b, "u", "r").expect("held already"));
    step(&mut fixture, 1, |s, b| {
        s.grant_permission(b, "r", permission(Type::Read, "a", "")).expect("ok");
    });
    step(&mut fixture, 1, |s, b| s.revoke_permission(b, "r", b"a", b"").expect("ok"));
    step(&mut fixture, 1, |s, b| s.revoke_role(b, "u", "r").expect("ok"));
    step(&mut fixture, 1, |s, b| s.delete_role(b, "r").expect("ok"));
    step(&mut fixture, 1, |s, b| s.delete_user(b, "u").expect("ok"));
}

#[test]
fn au_05_to_07_row_123_users() {
    let mut fixture = Fixture::on();
    let empty = fixture.change(|s, b| s.add_user(b, "", "h".into(), None));
    assert_eq!(empty, Err(Refused::UserEmpty));
    let without = Some(UserAddOptions { no_password: true });
    fixture.change(|s, b| s.add_user(b, "cert", "h".into(), without)).expect("added");
    fixture.change(|s, b| s.add_user(b, "alice", "h".into(), None)).expect("added");
    assert_eq!(fixture.store.password("cert"), Some(Password::None));
    assert_eq!(fixture.store.password("alice"), Some(Password::Hash(b"h")));
    assert_eq!(fixture.store.password("bob"), None);
    fixture.change(|s, b| s.change_password(b, "alice", "i".into())).expect("changed");
    assert_eq!(fixture.store.password("alice"), Some(Password::Hash(b"i")));
    let unknown = fixture.change(|s, b| s.change_password(b, "bob", "i".into()));
    assert_eq!(unknown, Err(Refused::UserNotFound));
    assert_eq!(fixture.store.users().collect::<Vec<_>>(), ["alice", "cert", ROOT]);
    assert_eq!(fixture.change(|s, b| s.delete_user(b, ROOT)), Err(Refused::InvalidAuthMgmt));
    assert_eq!(fixture.change(|s, b| s.delete_user(b, "bob")), Err(Refused::UserNotFound));
    fixture.change(|s, b| s.delete_user(b, "alice")).expect("deleted");
    fixture.change(AuthStore::disable);
    fixture.change(|s, b| s.delete_user(b, ROOT)).expect("while off it goes");
}

#[test]
fn au_08_09_row_124_roles_of_users() {
    let mut fixture = Fixture::on();
    fixture.user("u", &[]);
    for role in ["c", "a", "b"] {
        fixture.role(role, &[]);
        fixture.change(|s, b| s.grant_role(b, "u", role)).expect("granted");
    }
    assert_eq!(fixture.store.user_roles("u").expect("known"), ["a", "b", "c"]);
    let grant = |fixture: &mut Fixture, user: &str, role: &str| {
        fixture.change(|s, b| s.grant_role(b, user, role))
    };
    assert_eq!(grant(&mut fixture, "nobody", "a"), Err(Refused::UserNotFound));
    assert_eq!(grant(&mut fixture, "u", "none"), Err(Refused::RoleNotFound));
    assert_eq!(grant(&mut fixture, "u", ROOT), Ok(()), "it need not exist");
    assert!(fixture.store.is_root("u"));
    let revoke = |fixture: &mut Fixture, user: &str, role: &str| {
        fixture.change(|s, b| s.revoke_role(b, user, role))
    };
    assert_eq!(revoke(&mut fixture, "u", ROOT), Ok(()));
    assert_eq!(revoke(&mut fixture, "u", ROOT), Err(Refused::RoleNotGranted));
    assert_eq!(revoke(&mut fixture, "nobody", "a"), Err(Refused::UserNotFound));
    assert_eq!(revoke(&mut fixture, ROOT, ROOT), Err(Refused::InvalidAuthMgmt));
}

#[test]
fn au_10_row_125_roles() {
    let mut fixture = Fixture::on();
    fixture.role("r", &[(Type::Read, "a", "b")]);
    fixture.user("u", &["r"]);
    assert_eq!(fixture.change(|s, b| s.add_role(b, "")), Err(Refused::RoleEmpty));
    assert_eq!(fixture.change(|s, b| s.add_role(b, "r")), Err(Refused::RoleAlreadyExist));
    assert_eq!(fixture.store.role_permissions(ROOT), Err(Refused::RoleNotFound), "V60");
    fixture.role(ROOT, &[]);
    let all = permission(Type::Readwrite, "", "\0").expect("one");
    assert_eq!(fixture.store.role_permissions(ROOT), Ok(vec![all]));
    assert_eq!(fixture.change(|s, b| s.delete_role(b, ROOT)), Err(Refused::InvalidAuthMgmt));
    assert_eq!(fixture.change(|s, b| s.delete_role(b, "none")), Err(Refused::RoleNotFound));
    assert_eq!(fixture.asks("u", Need::Read(range("a", ""))), Ok(()));
    fixture.change(|s, b| s.delete_role(b, "r")).expect("deleted");
    assert!(fixture.store.user_roles("u").expect("known").is_empty());
    assert_eq!(fixture.asks("u", Need::Read(range("a", ""))), Err(Refused::PermissionDenied));
    assert_eq!(fixture.store.roles().collect::<Vec<_>>(), [ROOT]);
}

#[test]
fn au_31_to_33_row_126_permissions() {
    let mut fixture = Fixture::on();
    fixture.role("r", &[]);
    let grant = |fixture: &mut Fixture, role: &str, what| {
        fixture.change(|s, b| s.grant_permission(b, role, what))
    };
    assert_eq!(grant(&mut fixture, "r", None), Err(Refused::PermissionNotGiven));
    for (key, end) in [("", ""), ("", "\0"), ("b", "a"), ("b", "b")] {
        let refused = grant(&mut fixture, "r", permission(Type::Read, key, end));
        assert_eq!(refused, Err(Refused::InvalidAuthMgmt), "{key:?} {end:?}");
    }
    let unknown = grant(&mut fixture, "none", permission(Type::Read, "a", ""));
    assert_eq!(unknown, Err(Refused::RoleNotFound));
    // V61, AU-32: the second permission on a key is never found for a replacement.
    for (kind, end) in [(Type::Read, ""), (Type::Read, "b"), (Type::Write, "b"), (Type::Write, "")]
    {
        grant(&mut fixture, "r", permission(kind, "a", end)).expect("granted");
    }
    grant(&mut fixture, "r", permission(Type::Read, "0", "\0")).expect("granted");
    let listed: Vec<_> = [
        permission(Type::Read, "0", "\0"),
        permission(Type::Write, "a", ""),
        permission(Type::Read, "a", "b"),
        permission(Type::Write, "a", "b"),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(fixture.store.role_permissions("r"), Ok(listed));
    let revoke = |fixture: &mut Fixture, role: &str, key: &[u8], end: &[u8]| {
        fixture.change(|s, b| s.revoke_permission(b, role, key, end))
    };
    assert_eq!(revoke(&mut fixture, "none", b"a", b""), Err(Refused::RoleNotFound));
    assert_eq!(revoke(&mut fixture, "r", b"a", b"c"), Err(Refused::PermissionNotGranted));
    revoke(&mut fixture, "r", b"a", b"b").expect("both are gone");
    assert_eq!(fixture.store.role_permissions("r").expect("known").len(), 2);
}

#[test]
fn au_36_47_48_who_is_refused_and_how() {
    let mut fixture = Fixture::on();
    fixture.role("r", &[(Type::Readwrite, "a", "b")]);
    fixture.user("u", &["r"]);
    fixture.user("gone", &["r", ROOT]);
    let nobody = Identity::default();
    for need in [Need::Somebody, Need::Root, Need::Read(range("a", "")), Need::User("u".into())] {
        let refused = fixture.store.allows(&nobody, &need, &Leases::default());
        assert_eq!(refused, Err(Refused::UserEmpty), "{need:?}");
    }
    let old = fixture.who("u");
    let old_root = fixture.who(ROOT);
    fixture.change(|s, b| s.delete_user(b, "gone")).expect("deleted");
    let ask = |who: &Identity, need| fixture.store.allows(who, &need, &Leases::default());
    assert_eq!(ask(&old, Need::Read(range("a", ""))), Err(Refused::AuthOldRevision));
    assert_eq!(ask(&old_root, Need::Read(range("a", ""))), Err(Refused::AuthOldRevision));
    assert_eq!(ask(&old_root, Need::Root), Ok(()), "only what it holds now counts");
    assert_eq!(ask(&old, Need::Root), Err(Refused::PermissionDenied));
    assert_eq!(ask(&old, Need::Somebody), Ok(()));
    assert_eq!(fixture.asks("gone", Need::Root), Err(Refused::UserNotFound));
    assert_eq!(fixture.asks("gone", Need::Read(range("a", ""))), Err(Refused::PermissionDenied));
    assert_eq!(fixture.asks("u", Need::User("u".into())), Ok(()));
    assert_eq!(fixture.asks("u", Need::User(ROOT.into())), Err(Refused::PermissionDenied));
    assert_eq!(fixture.asks("u", Need::Role("r".into())), Ok(()));
    assert_eq!(fixture.asks("u", Need::Role(ROOT.into())), Err(Refused::PermissionDenied));
    assert_eq!(fixture.asks(ROOT, Need::Role("r".into())), Ok(()));
    assert_eq!(fixture.asks(ROOT, Need::Write(range("a", "\0"))), Ok(()));
    assert_eq!(fixture.asks("u", Need::Write(range("a", "\0"))), Err(Refused::PermissionDenied));
}

#[test]
fn row_129_leases_are_judged_by_their_keys() {
    let mut fixture = Fixture::on();
    fixture.role("r", &[(Type::Write, "a", "b"), (Type::Read, "c", "")]);
    fixture.user("u", &["r"]);
    let keys = |keys: &[&'static str]| keys.iter().map(|key| Bytes::from(*key)).collect();
    let leases = Leases(BTreeMap::from([
        (1, keys(&["a1", "a2"])),
        (2, keys(&["a1", "c"])),
        (3, keys(&["c"])),
    ]));
    let ask = |user: &str, need| fixture.store.allows(&fixture.who(user), &need, &leases);
    let denied = Err(Refused::PermissionDenied);
    assert_eq!(ask("u", Need::WriteLease(LeaseId(1))), Ok(()));
    assert_eq!(ask("u", Need::WriteLease(LeaseId(2))), denied);
    assert_eq!(ask("u", Need::ReadLease(LeaseId(3))), Ok(()));
    assert_eq!(ask("u", Need::ReadLease(LeaseId(1))), denied);
    assert_eq!(ask("u", Need::WriteLease(LeaseId(9))), Ok(()), "it has no keys");
    assert_eq!(ask(ROOT, Need::WriteLease(LeaseId(2))), Ok(()));
}

#[test]
fn damaged_rows_are_named() {
    for (bucket, key, value) in [
        (Bucket::AuthUsers, &b"u"[..], &[0xff][..]),
        (Bucket::AuthRoles, b"r", b"\x0a\x01x"),
        (Bucket::Auth, KEY_ENABLED, &[2]),
        (Bucket::Auth, KEY_REVISION, &[1, 2]),
    ] {
        let fixture = Fixture::new();
        let mut batch = fixture.backend.batch();
        batch.put(bucket, key, value);
        fixture.backend.write(batch).expect("written");
        let error = AuthStore::open(&fixture.backend).expect_err("it is damaged").to_string();
        assert!(error.contains(bucket.name()), "{error}");
    }
}
