//! Runs `etcdctl-rs` and a real etcdctl through the same commands, each on a fresh server of its
//! own, and compares outputs and exit codes. What differs because etcdctl has changed since the
//! installed version is listed at the case, with the reason.
//!
//! Needs `etcd` and `etcdctl`, from `ETCD_BIN` and `ETCDCTL_BIN` or from `PATH`; without them the
//! tests only say so. `ETCD_BIN` may name any server that takes etcd's flags.

mod harness;

use std::fs;

use crate::harness::{Case, Pair};

/// Everything as it is.
fn same(text: &str) -> String {
    text.to_owned()
}

/// Commands and what both must say. `{lease}` is the lease that was granted last.
fn check(pair: &mut Pair, cases: &[Case<'_>]) {
    for case in cases {
        pair.check(case);
    }
}

/// Text without the lines that contain any of these.
fn without_lines(text: &str, names: &[&str]) -> String {
    let kept = text.lines().filter(|line| !names.iter().any(|name| line.contains(name)));
    kept.map(|line| format!("{line}\n")).collect()
}

/// JSON without these members, whose values contain no commas.
fn without_members(text: &str, names: &[&str]) -> String {
    let mut text = text.to_owned();
    for name in names {
        let Some(start) = text.find(&format!(",\"{name}\":")) else { continue };
        let value = &text[start + name.len() + 4..];
        let length = match value.strip_prefix('{') {
            Some(object) => object.find('}').map(|end| end + 2),
            None => value.find([',', '}']),
        };
        let end = start + name.len() + 4 + length.expect("the value ends");
        text.replace_range(start..end, "");
    }
    text
}

/// Text without the seconds that a lease has left, which pass differently on both sides.
fn without_seconds(text: &str) -> String {
    let mut text = text.to_owned();
    for marker in ["remaining(", "\"ttl\":", "\"TTL\" : "] {
        if let Some(start) = text.find(marker).map(|at| at + marker.len()) {
            let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or_default();
            text.replace_range(start..start + length, "LEFT");
        }
    }
    text
}

fn case(line: &str) -> Case<'_> {
    Case { line, stdin: "", ours: same, theirs: same }
}

fn with_stdin<'a>(line: &'a str, stdin: &'a str) -> Case<'a> {
    Case { stdin, ..case(line) }
}

#[test]
fn keys() {
    let Some(mut pair) = Pair::start() else { return };
    check(&mut pair, &[case("put a 1"), case("put a 2 --prev-kv"), case("put b x")]);
    for format in ["simple", "json", "fields", "protobuf"] {
        for line in [
            "put foo bar",
            "put foo bar2 --prev-kv",
            "put foo2 ü<&>",
            "get foo",
            "get --prefix foo",
            "get nokey",
            "get foo --keys-only --prefix",
            "get foo --print-value-only",
            "get --prefix foo --limit 1",
            "get foo --rev 2",
            "get --from-key f --order descend",
            "get a c --sort-by VERSION --order DESCEND",
            "get  --prefix --sort-by modify",
            "get foo --count-only --prefix",
            "get foo --consistency s",
            "del foo2 --prev-kv",
            "del nothere",
            "del fo --prefix --prev-kv",
        ] {
            check(&mut pair, &[case(&format!("{line} -w {format}"))]);
        }
    }
    let hex = ["put h \u{1}z", "get h --hex", "get h -w json --hex"];
    check(&mut pair, &hex.map(case));
    check(&mut pair, &[with_stdin("put in", "from stdin\n"), case("get in")]);
}

#[test]
fn arguments_are_refused_alike() {
    let Some(mut pair) = Pair::start() else { return };
    for line in [
        "get",
        "get a b --prefix",
        "get a b --from-key",
        "get a --prefix --from-key",
        "get a --keys-only --count-only -w fields",
        "get a --order foo",
        "get a --sort-by foo",
        "get a --consistency z",
        "get a b c",
        "put",
        "put a --ignore-value",
        "put a b --ignore-value",
        "put a b --lease zz",
        "put a b --lease 99",
        "del",
        "del a b c",
        "del a --prefix --from-key",
        "lease grant",
        "lease grant a",
        "lease revoke",
        "lease revoke zz",
        "lease revoke 1234",
        "lease timetolive",
        "lease keep-alive",
        "lease keep-alive --once 1234",
        "lease keep-alive 1234",
        "lease timetolive 1234",
        "compaction",
        "compaction abc",
        "compaction 99",
        "compaction 1 2",
        "member add",
        "member add x http://127.0.0.1:1",
        "member add x",
        "member remove",
        "member remove zz",
        "member update zz",
        "member promote",
        "-w bogus get a",
        "get a -w table",
        "lease grant 10 -w table",
        "snapshot save a b --endpoints a:1",
        "alarm list x",
        "alarm disarm x",
        "move-leader",
        "move-leader zz",
        "move-leader 12",
        "txn x",
        "watch",
        "watch a b --prefix",
        "watch a --",
        "get ",
        "compaction 1 -w json",
        "--cert x get a",
        "endpoint status --endpoints 127.0.0.1:1 --command-timeout 300ms",
        "endpoint hashkv --rev 99",
        "get a --endpoints 127.0.0.1:1 --command-timeout 300ms",
    ] {
        // 3.6 has added the name to the text.
        let theirs = |text: &str| {
            text.replace("save expects one argument\n", "save expects one argument <filename>\n")
        };
        check(&mut pair, &[Case { theirs, ..case(line) }]);
    }
}

#[test]
fn wrong_flags_are_refused_alike() {
    // The first line; the usage below it is laid out differently.
    let first_line = |text: &str| text.lines().take(1).collect();
    let Some(mut pair) = Pair::start() else { return };
    for line in [
        "bogus",
        "get --bogus",
        "put k -v",
        "get a --limit abc",
        "get a --limit",
        "--command-timeout 5 get a",
        "--debug=maybe get a",
        "get a --prefix=x",
    ] {
        let case = Case { ours: first_line, theirs: first_line, ..case(line) };
        pair.check_errors(&case);
    }
}

#[test]
fn wrong_certificates_are_refused_alike() {
    let Some(mut pair) = Pair::start() else { return };
    let key = || rcgen::KeyPair::generate().expect("a key");
    let (good, other) = (key(), key());
    let certificate = rcgen::CertificateParams::new([]).expect("no names").self_signed(&good);
    let certificate = certificate.expect("a certificate").pem();
    for dir in pair.dirs() {
        for (name, content) in [
            ("good.crt", certificate.as_str()),
            ("good.key", &good.serialize_pem()),
            ("other.key", &other.serialize_pem()),
            ("junk", "junk"),
        ] {
            fs::write(dir.join(name), content).expect("a file");
        }
    }
    for flags in [
        "--key {dir}/good.key",
        "--cert {dir}/good.crt",
        "--cacert {dir}/nowhere",
        "--cacert {dir}",
        "--cert {dir}/nowhere --key {dir}/good.key",
        "--cert {dir}/good.crt --key {dir}/nowhere",
        "--cert {dir}/junk --key {dir}/good.key",
        "--cert {dir}/good.crt --key {dir}/junk",
        "--cert {dir}/good.key --key {dir}/good.crt",
        "--cert {dir}/good.crt --key {dir}/good.crt",
        "--cert {dir}/good.crt --key {dir}/other.key",
        "--endpoints http://127.0.0.1:1 --cacert {dir}/nowhere",
        "--endpoints https://127.0.0.1:1 --command-timeout 300ms",
        "--insecure-transport=false --command-timeout 300ms",
    ] {
        check(&mut pair, &[case(&format!("get a {flags}"))]);
    }
}

#[test]
fn transactions() {
    let Some(mut pair) = Pair::start() else { return };
    check(&mut pair, &[case("put t1 x"), case("put t2 y")]);
    let good = "mod(\"t1\") > \"0\"\nver(\"t2\") = \"1\"\n\nput t1 \"over \\x41\" --prev-kv\nget t1\ndel t2 --prev-kv\n\nget t2\n\n";
    let other = "val(\"t1\") = \"nope\"\n\nput t1 a\n\nput t9 b\nget --prefix t --keys-only\ndel --prefix t9\n\n";
    for format in ["simple", "json", "fields", "protobuf"] {
        let line = format!("txn -w {format}");
        check(&mut pair, &[with_stdin(&line, good), case("put t2 y"), with_stdin(&line, other)]);
    }
    check(&mut pair, &[with_stdin("txn -i", good)]);
    for bad in [
        "",
        "bogus\n",
        "bogus(\"a\") = \"1\"\n",
        "mod(\"a\") > 0\n",
        "mod(\"a\") > \"x\"\n",
        "mod(\"a) > \"x\"\n",
        "mod(\"a\")> \"1\"\n",
        "\nbogus x\n",
        "\nget\n",
        "\nput a\n\n\n",
        "\nput a \"\\q\"\n\n\n",
        "\n\n",
        "\n\n\n",
        "\nput a b\nput a c\n\n\n",
    ] {
        check(&mut pair, &[with_stdin("txn", bad)]);
    }
}

#[test]
fn leases() {
    let Some(mut pair) = Pair::start() else { return };
    for format in ["simple", "json", "fields", "protobuf"] {
        pair.grant();
        for line in [
            "put lk v --lease={lease}",
            "get lk -w json",
            "lease timetolive {lease} --keys -w FORMAT",
            "lease timetolive {lease} -w FORMAT",
            "lease keep-alive --once {lease} -w FORMAT",
            "lease list -w FORMAT",
            "lease timetolive 1234 -w FORMAT",
        ] {
            let line = line.replace("FORMAT", format);
            check(&mut pair, &[case(&line).with(without_seconds, without_seconds)]);
        }
        if format != "protobuf" {
            check(&mut pair, &[case(&format!("lease revoke {{lease}} -w {format}"))]);
        }
    }
    pair.grant();
    pair.check_first_lines("lease keep-alive {lease}", 1, same);
}

#[test]
fn watches() {
    let Some(mut pair) = Pair::start() else { return };
    // 3.7 tells the reason of a cancellation in a field of its own.
    let without_reason = |text: &str| text.replace(",\"CancelReason\":\"\"", "");
    for line in ["put w a", "put w b", "del w", "put w2 c"] {
        check(&mut pair, &[case(line)]);
    }
    pair.check_first_lines("watch w --rev 2 --prev-kv", 13, same);
    pair.check_first_lines("watch w --prefix --rev=2", 12, same);
    pair.check_first_lines("watch w x --rev 2 -w json", 1, without_reason);
    pair.check_first_lines("watch w --rev 2 -w json --prev-kv", 1, without_reason);
    pair.check_first_lines("watch w --rev 2 -w fields --prev-kv", 37, same);
    pair.check_first_lines("watch w --rev 2 -- env", 0, same);
    let script =
        "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
    pair.check_first_words(&["watch", "w", "--rev", "2", "--", "sh", "-c", script], 12, same);
    check(
        &mut pair,
        &[case("compaction 4"), case("watch w --rev 2"), case("watch w --rev 1 --rev 2")],
    );
    check(
        &mut pair,
        &[
            with_stdin("watch -i", "bogus\n\nwatch\nwatch x y --prefix\n"),
            with_stdin("watch -i", "watch x --\n"),
            case("watch w --rev 1 -- false"),
        ],
    );
    check(&mut pair, &[Case { ours: without_reason, ..case("watch w --rev 1 -w json") }]);
    check(&mut pair, &[case("watch w --rev 4 -- false")]);
}

#[test]
fn the_cluster() {
    let Some(mut pair) = Pair::start() else { return };
    check(&mut pair, &[case("put a b")]);
    // Since 3.6 an answer without a revision shows none.
    let without_zero = |text: &str| text.replace("\"Revision\" : 0\n", "");
    for line in [
        "member list",
        "member list -w json",
        "member list -w table",
        "member list -w protobuf",
        "mem li",
        "alarm list",
        "alarm list -w json",
        "alarm list -w fields",
        "alarm disarm",
    ] {
        check(&mut pair, &[case(line)]);
    }
    check(&mut pair, &[Case { theirs: without_zero, ..case("member list -w fields") }]);
    // 3.6 has added the hash's revision.
    let csv = |text: &str| {
        text.trim_end().trim_end_matches(|c| c != ',').trim_end_matches(',').to_owned()
    };
    let their_csv = |text: &str| text.trim_end().to_owned();
    let fields = |text: &str| without_lines(text, &["HashRevision"]);
    let json = |text: &str| without_members(text, &["hash_revision"]);
    check(
        &mut pair,
        &[
            Case { ours: csv, theirs: their_csv, ..case("endpoint hashkv") },
            Case { ours: json, ..case("endpoint hashkv -w json --rev 2") },
            Case { ours: fields, ..case("endpoint hashkv -w fields") },
            Case { ours: csv, theirs: their_csv, ..case("endpoint --cluster hashkv") },
        ],
    );
    // 3.6 has added columns.
    let old_columns = |text: &str| {
        if text.is_empty() {
            return String::new();
        }
        let cells: Vec<&str> = text.trim_end_matches('\n').split(", ").collect();
        [0, 1, 2, 4, 8, 9, 10, 11, 12, 13].map(|at| cells[at]).join(", ") + "\n"
    };
    let old_fields = |text: &str| {
        without_lines(text, &["StorageVersion", "DBSizeInUse", "DBSizeQuota", "Downgrade"])
    };
    let old_members =
        |text: &str| without_members(text, &["storageVersion", "dbSizeQuota", "downgradeInfo"]);
    check(
        &mut pair,
        &[
            Case { ours: old_columns, ..case("endpoint status") },
            Case { ours: old_members, ..case("endpoint status -w json") },
            Case { ours: old_fields, ..case("endpoint status -w fields") },
        ],
    );
    let without_time = |text: &str| {
        let cut = text.find(" took").or(text.find("\"Took\"")).or(text.find("\"took\""));
        text[..cut.unwrap_or(text.len())].trim_end_matches(['.', '\n']).to_owned()
    };
    for line in [
        "endpoint health",
        "endpoint health -w json",
        "endpoint health -w fields",
        "endpoint health --cluster",
        "defrag", // 3.6 tells how long it took
        "defrag --cluster",
    ] {
        check(&mut pair, &[Case { ours: without_time, theirs: without_time, ..case(line) }]);
    }
    check(&mut pair, &[case("move-leader {member}")]);
}

#[test]
fn snapshots_are_saved_with_their_hash() {
    let Some(mut pair) = Pair::start() else { return };
    // Since 3.6 the server's version is told, where it has sent one.
    let without_version = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("Server version"));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let save = Case { ours: without_version, ..case("snapshot save {dir}/snap.db") };
    check(&mut pair, &[case("put a b"), save]);
    let [ours, theirs] = pair.dirs().map(|dir| dir.join("snap.db"));
    let (ours, theirs) = (fs::read(ours).unwrap(), fs::read(theirs).unwrap());
    assert_eq!((ours.len() % 512, theirs.len() % 512), (32, 32));
    assert!(!pair.dirs()[0].join("snap.db.part").exists());
    check(
        &mut pair,
        &[case("snapshot save {dir}/no/such/dir.db --command-timeout 5s")
            .with(|text| text.replace("\"", ""), |text| text.replace("\"", ""))],
    );
}
