//! The etcdctl of etcd 3.5.1, unchanged.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcdrs_tests::log::Log;
use etcdrs_tests::server::{Server, Setup};
use etcdrs_tests::target;

const LIMIT: Duration = Duration::from_secs(20);

struct Ctl {
    endpoint: String,
}

impl Ctl {
    fn of(server: &Server) -> Self {
        Self { endpoint: server.endpoint() }
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(target::etcdctl());
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.endpoint));
        command.args(args.split_whitespace());
        command
    }

    /// Runs to the end with `input`; standard output, or what went wrong.
    async fn with_input(&self, args: &str, input: &'static str) -> Result<String, String> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = run.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            Ok(text)
        } else {
            Err(text + &String::from_utf8_lossy(&output.stderr))
        }
    }

    /// Runs a command that must succeed.
    async fn run(&self, args: &str) -> String {
        self.with_input(args, "").await.unwrap_or_else(|error| panic!("{args}: {error}"))
    }

    /// Runs a command that must fail.
    async fn fail(&self, args: &str) -> String {
        match self.with_input(args, "").await {
            Ok(text) => panic!("{args} succeeded: {text}"),
            Err(error) => error,
        }
    }

    /// Starts a command that goes on.
    fn follow(&self, args: &str) -> Following {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        Following { child, log }
    }
}

struct Following {
    child: Child,
    log: Log,
}

impl Following {
    async fn wait_for(&self, text: &str) {
        assert!(self.log.wait_for(&[text], LIMIT).await, "no {text} in:\n{}", self.log.text());
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn put_get_prefix_and_delete() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    assert_eq!(ctl.run("put a 1").await, "OK\n");
    ctl.run("put ab 2").await;
    ctl.run("put b 3").await;
    assert_eq!(ctl.run("get a").await, "a\n1\n");
    assert_eq!(ctl.run("get --prefix a").await, "a\n1\nab\n2\n");
    assert_eq!(ctl.run("get --prefix a --keys-only").await, "a\n\nab\n\n");
    assert_eq!(ctl.run("get --from-key ab --print-value-only").await, "2\n3\n");
    assert_eq!(ctl.run("get a z --limit=1 --sort-by=MODIFY --order=DESCEND").await, "b\n3\n");
    assert_eq!(ctl.with_input("put a", "from stdin").await.unwrap(), "OK\n");
    assert_eq!(ctl.run("get a --rev=2").await, "a\n1\n");
    assert_eq!(ctl.run("put a 4 --prev-kv").await, "OK\na\nfrom stdin\n");
    let json: serde_json::Value = serde_json::from_str(&ctl.run("get a -w json").await).unwrap();
    assert_eq!((&json["header"]["revision"], &json["kvs"][0]["version"]), (&6.into(), &3.into()));
    let count = ctl.run("get --prefix a --count-only -w fields").await;
    assert!(count.contains("\"Count\" : 2"), "{count}");
    assert_eq!(ctl.run("del a --prev-kv").await, "1\na\n4\n");
    assert_eq!(ctl.run("del --prefix ab").await, "1\n");
    assert_eq!(ctl.run("del nothing").await, "0\n");
}

#[tokio::test]
async fn watch() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    ctl.run("put w/a 1").await;
    let history = ctl.follow("watch --prefix w/ --rev=2 --prev-kv");
    history.wait_for("w/a").await;
    ctl.run("put w/a 2").await;
    ctl.run("del w/a").await;
    ctl.run("put w/end end").await;
    history.wait_for("end").await;
    let expected =
        "PUT\n\n\nw/a\n1\nPUT\nw/a\n1\nw/a\n2\nDELETE\nw/a\n2\nw/a\n\nPUT\n\n\nw/end\nend";
    assert!(history.log.wait_for(&["w/end"], LIMIT).await);
    let compact = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(compact(&history.log.text())[..], compact(expected)[..]);
    ctl.run("compaction 4").await;
    let error = ctl.fail("watch w/a --rev=2").await;
    assert!(error.contains("required revision has been compacted"), "{error}");
}

#[tokio::test]
async fn txn() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    ctl.run("put k old").await;
    let script = "value(\"k\") = \"old\"\nmod(\"k\") < \"100\"\n\nput k new\nget k\n\ndel k\n\n";
    assert_eq!(ctl.with_input("txn", script).await.unwrap(), "SUCCESS\n\nOK\n\nk\nnew\n");
    assert_eq!(ctl.with_input("txn", script).await.unwrap(), "FAILURE\n\n1\n");
}

#[tokio::test]
async fn lease() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    let granted = ctl.run("lease grant 2").await;
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(2s)\n"));
    assert_eq!(ctl.run(&format!("put leased v --lease={id}")).await, "OK\n");
    let keeper = ctl.follow(&format!("lease keep-alive {id}"));
    keeper.wait_for(&format!("lease {id} keepalived with TTL(2)")).await;
    // It outlives its TTL twice over: the fourth renewal comes after 2 s.
    while keeper.log.text().matches("keepalived").count() < 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ctl.run("get leased --print-value-only").await, "v\n");
    assert!(ctl.run("lease list").await.contains(&id));
    let left = ctl.run(&format!("lease timetolive {id} --keys")).await;
    assert!(left.contains("granted with TTL(2s)") && left.contains("attached keys([leased])"));
    drop(keeper);
    assert_eq!(ctl.run(&format!("lease revoke {id}")).await, format!("lease {id} revoked\n"));
    assert_eq!(ctl.run("get leased").await, "");
    let gone = ctl.run(&format!("lease timetolive {id}")).await;
    assert_eq!(gone, format!("lease {id} already expired\n"));
    let error = ctl.fail(&format!("lease revoke {id}")).await;
    assert!(error.contains("requested lease not found"), "{error}");
}

#[tokio::test]
async fn compaction() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    for value in ["1", "2", "3"] {
        ctl.run(&format!("put a {value}")).await;
    }
    assert_eq!(ctl.run("compaction --physical 3").await, "compacted revision 3\n");
    assert!(ctl.fail("get a --rev=2").await.contains("required revision has been compacted"));
    assert_eq!(ctl.run("get a --rev=3").await, "a\n2\n");
    assert!(ctl.fail("compaction 3").await.contains("required revision has been compacted"));
    assert!(ctl.fail("compaction 99").await.contains("required revision is a future revision"));
}

#[tokio::test]
async fn endpoint_member_alarm_and_defrag() {
    let s = Server::start().await;
    let ctl = Ctl::of(&s);
    ctl.run("put a 1").await;
    let status = ctl.run("endpoint status -w json").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let of = &status[0]["Status"];
    assert_eq!(of["leader"], of["header"]["member_id"], "{status}");
    assert!(of["version"].as_str().unwrap().starts_with("3."), "{status}");
    assert!(ctl.run("endpoint status").await.contains(&s.endpoint()));
    assert!(ctl.run("endpoint status -w table").await.contains("ENDPOINT"));
    ctl.run("endpoint health").await; // It reports on standard error; the exit code counts.
    assert!(ctl.run("endpoint hashkv").await.contains(&s.endpoint()));
    let members = ctl.run("member list").await;
    assert!(members.contains("started, default, "), "{members}");
    assert_eq!(ctl.run("alarm list").await, "");
    assert!(ctl.run("defrag").await.contains("Finished defragmenting"));
}

#[tokio::test]
async fn snapshot_save() {
    let s = Setup::new().start().await;
    let ctl = Ctl::of(&s);
    for at in 0..5 {
        ctl.run(&format!("put key{at} value{at}")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.db");
    let saved = ctl.run(&format!("snapshot save {}", file.display())).await;
    assert!(saved.contains("Snapshot saved at"), "{saved}");
    // etcdctl keeps the digest at the end of the file and checks it when it restores.
    let size = std::fs::metadata(&file).unwrap().len();
    assert_eq!(size % 512, 32, "image and digest: {size}");
}
