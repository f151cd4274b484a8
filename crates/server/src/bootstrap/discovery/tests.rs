//! Tests of discovery against a registry in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;

use super::*;

/// A registry that several members share; each answer can be made to fail first.
struct Memory {
    keys: Mutex<BTreeMap<String, (String, i64)>>,
    revision: watch::Sender<i64>,
    failures: Mutex<u32>,
}

impl Memory {
    fn new(size: Option<&str>) -> Self {
        let memory =
            Self { keys: Mutex::default(), revision: watch::channel(1).0, failures: Mutex::new(0) };
        if let Some(size) = size {
            memory.set("/_etcd/registry/tk/_config/size", size);
        }
        memory
    }

    fn set(&self, key: &str, value: &str) {
        self.revision.send_modify(|revision| {
            *revision += 1;
            let mut keys = self.keys.lock().expect("no panic");
            let created = keys.get(key).map_or(*revision, |(_, created)| *created);
            keys.insert(key.into(), (value.into(), created));
        });
    }

    fn found(&self, prefix: &str, from: i64) -> Listing {
        let keys = self.keys.lock().expect("no panic");
        let found = keys
            .iter()
            .filter(|(key, (_, created))| key.starts_with(prefix) && *created >= from)
            .map(|(key, (value, created))| Registered {
                key: key.clone(),
                value: value.clone(),
                create_revision: *created,
            })
            .collect();
        Listing { revision: *self.revision.borrow(), found }
    }

    fn fail(&self) -> Result<(), String> {
        let mut failures = self.failures.lock().expect("no panic");
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err("connection refused".into())
    }
}

impl Registry for Memory {
    async fn get(&self, key: &str) -> Result<Option<String>, String> {
        self.fail()?;
        Ok(self.keys.lock().expect("no panic").get(key).map(|(value, _)| value.clone()))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, String> {
        self.fail()?;
        Ok(self.found(prefix, 0))
    }

    async fn put(&self, key: &str, value: &str) -> Result<(), String> {
        self.fail()?;
        self.set(key, value);
        Ok(())
    }

    async fn wait(&self, prefix: &str, from_revision: i64) -> Result<Listing, String> {
        self.fail()?;
        let mut changes = self.revision.subscribe();
        loop {
            changes.borrow_and_update();
            let found = self.found(prefix, from_revision);
            if !found.found.is_empty() {
                return Ok(found);
            }
            changes.changed().await.map_err(|error| error.to_string())?;
        }
    }
}

async fn member(memory: &Memory, id: u64) -> Result<String, String> {
    let own = format!("m{id}=http://10.0.0.{id}:1");
    let joined = join(memory, "tk", MemberId(id), &own, Duration::from_micros(1)).await;
    joined.map(|cluster| cluster.to_string()).map_err(|error| error.to_string())
}

const THREE: &str = "m1=http://10.0.0.1:1,m2=http://10.0.0.2:1,m3=http://10.0.0.3:1";

#[tokio::test]
async fn members_wait_for_each_other() {
    let memory = Memory::new(Some("3"));
    let (a, b, c) = tokio::join!(member(&memory, 3), member(&memory, 1), member(&memory, 2));
    for found in [a, b, c] {
        assert_eq!(found.as_deref(), Ok(THREE));
    }
    let keys: Vec<String> = memory.keys.lock().expect("no panic").keys().cloned().collect();
    assert_eq!(keys[1], "/_etcd/registry/tk/members/1");
    // A member that comes back finds its place; one more finds none.
    assert_eq!(member(&memory, 2).await.as_deref(), Ok(THREE));
    assert_eq!(member(&memory, 4).await, Err("discovery: cluster is full".into()));
}

#[tokio::test]
async fn the_first_by_creation_count() {
    let memory = Memory::new(Some("2"));
    for id in [9, 8, 7] {
        let value = format!(" m{id}=http://10.0.0.{id}:1\n");
        memory.set(&format!("/_etcd/registry/tk/members/{id}"), &value);
    }
    let found = member(&memory, 8).await;
    assert_eq!(found.as_deref(), Ok("m8=http://10.0.0.8:1,m9=http://10.0.0.9:1"));
    assert_eq!(member(&memory, 7).await, Err("discovery: cluster is full".into()));
}

#[tokio::test]
async fn a_service_that_fails_is_asked_again() {
    let memory = Memory::new(Some("1"));
    for failures in 1..6 {
        *memory.failures.lock().expect("no panic") = failures;
        assert_eq!(member(&memory, 1).await.as_deref(), Ok("m1=http://10.0.0.1:1"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told() {
    let refused = async |size: Option<&str>, others: &[(&str, &str)], why: &str| {
        let memory = Memory::new(size);
        for (id, value) in others {
            memory.set(&format!("/_etcd/registry/tk/members/{id}"), value);
        }
        assert_eq!(member(&memory, 1).await, Err(why.to_owned()));
    };
    refused(None, &[], "discovery: size key not found").await;
    refused(Some("0"), &[], "discovery: size key is bad").await;
    refused(Some("three"), &[], "discovery: size key is bad").await;
    refused(Some("2"), &[("9", "x=nothing")], "discovery: invalid peer URL").await;
    let twin = [("9", "x=http://10.0.0.1:1")];
    let text = "discovery cluster m1=http://10.0.0.1:1,x=http://10.0.0.1:1 has duplicate url";
    refused(Some("2"), &twin, text).await;
    // What is no member at all does not count.
    let nonsense = [("9", "nonsense"), ("8", "x=http://10.0.0.8:1"), ("7", "y=http://10.0.0.7:1")];
    refused(Some("2"), &nonsense, "discovery: cluster is full").await;
}
