//! Python's `etcd3` package; the checks themselves are in `tests/python/suite.py`.

use std::process::Command;

use etcdrs_tests::server::Server;
use etcdrs_tests::target;

#[tokio::test]
async fn etcd3_suite() {
    let python = target::python();
    let import = Command::new(&python).args(["-c", "import etcd3"]).output().unwrap();
    assert!(
        import.status.success(),
        "{} cannot import etcd3; run xtask/setup.sh --tests or set PYTHON_BIN\n{}",
        python.display(),
        String::from_utf8_lossy(&import.stderr)
    );
    let server = Server::start().await;
    let suite = target::repository().join("tests/python/suite.py");
    let port = server.client_port().to_string();
    let run = tokio::task::spawn_blocking(move || {
        Command::new(python).arg("-u").arg(suite).arg(port).output().unwrap()
    });
    let output = run.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success() && text.contains("all passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
