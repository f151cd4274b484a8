//! `cargo xtask codegen`: Rust from the .proto files.
//!
//! The result is committed, so that a build needs neither protoc nor this task. `--check` generates
//! into memory and compares.
//!
//! Two descriptor sets are made. The one that is committed for reflection tells the truth about
//! the wire. The one Rust is generated from is adjusted first: see [`adjust_for_rust`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Every file with a package of its own; the others come in as imports.
const ROOTS: &[&str] = &[
    "etcd/api/mvccpb/kv.proto",
    "etcd/api/authpb/auth.proto",
    "etcd/api/membershippb/membership.proto",
    "etcd/api/etcdserverpb/etcdserver.proto",
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/api/etcdserverpb/raft_internal.proto",
    "etcd/server/leasepb/lease.proto",
    "etcd/server/v3lockpb/v3lock.proto",
    "etcd/server/v3electionpb/v3election.proto",
    "etcd/raft/raftpb/raft.proto",
    "etcd/server/walpb/record.proto",
    "etcd/server/snappb/snap.proto",
    "grpc/health/v1/health.proto",
];

/// Fields whose camel case the generator would split in the wrong place (`peer_ur_ls`).
const RENAMED_FIELDS: &[(&str, &str)] =
    &[("peerURLs", "peer_urls"), ("clientURLs", "client_urls"), ("IDs", "ids")];

/// Messages with secrets: lib.rs gives them a `Debug` that hides those.
const HIDDEN_DEBUG: &[&str] = &[
    "authpb.User",
    "etcdserverpb.AuthenticateRequest",
    "etcdserverpb.AuthUserAddRequest",
    "etcdserverpb.AuthUserChangePasswordRequest",
    "etcdserverpb.InternalAuthenticateRequest",
];

/// Generated files by name, below proto/src/gen.
type Output = BTreeMap<String, Vec<u8>>;

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask codegen [--check]"),
    };
    let dir = root.join("proto/src/gen");
    let output = generate(&root.join("proto"))?;
    if check { compare(&dir, &output) } else { write(&dir, &output) }
}

fn generate(proto: &Path) -> anyhow::Result<Output> {
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ROOTS).context("compiling the .proto files")?;
    let described = compiler.file_descriptor_set();

    let mut output = Output::new();
    output.insert("methods.rs".into(), methods(&described).into_bytes());
    output.insert("descriptors.bin".into(), without_comments(described.clone()).encode_to_vec());

    let scratch = std::env::temp_dir().join(format!("etcd-rs-codegen-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let generated = generate_rust(adjust_for_rust(described), &scratch, &mut output);
    std::fs::remove_dir_all(&scratch)?;
    generated?;
    Ok(output)
}

fn generate_rust(
    files: FileDescriptorSet,
    scratch: &Path,
    output: &mut Output,
) -> anyhow::Result<()> {
    let boxed = rare_requests(&files);
    let mut config = prost_build::Config::new();
    config.bytes(["."]).skip_debug(HIDDEN_DEBUG);
    for field in &boxed {
        config.boxed(field);
    }
    tonic_prost_build::configure()
        .build_server(false)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .emit_rerun_if_changed(false)
        .out_dir(scratch)
        .compile_fds_with_config(files, config)?;
    for entry in std::fs::read_dir(scratch)? {
        let path = entry?.path();
        let name = path.file_name().context("generated file has a name")?;
        output.insert(name.to_string_lossy().into_owned(), std::fs::read(&path)?);
    }
    Ok(())
}

/// The rarely used fields of InternalRaftRequest. Boxed, they take 8 bytes each of a message that
/// is decoded for every entry of the log; in place they would make it more than 2 KiB.
fn rare_requests(files: &FileDescriptorSet) -> Vec<String> {
    let messages = files.file.iter().flat_map(|f| &f.message_type);
    let request = messages.filter(|m| m.name() == "InternalRaftRequest");
    let rare = request
        .flat_map(|m| &m.field)
        .filter(|f| (1000..20_000).contains(&f.number()) || f.name() == "alarm");
    rare.map(|f| format!(".etcdserverpb.InternalRaftRequest.{}", f.name())).collect()
}

/// Changes what Rust sees, never what the wire sees.
///
/// - Fields of [`RENAMED_FIELDS`] get readable names.
/// - proto2's optional scalars become required ones: etcd up to 3.6 writes them even when zero,
///   and prost gives a plain field that is always written and may be absent on reading.
///   `vote_committed`, which is ours, and byte fields stay optional: etcd omits absent bytes.
fn adjust_for_rust(mut files: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut files.file {
        let proto2 = file.syntax() != "proto3";
        for field in file.message_type.iter_mut().flat_map(|m| &mut m.field) {
            if let Some((_, new)) = RENAMED_FIELDS.iter().find(|(old, _)| *old == field.name()) {
                field.name = Some((*new).into());
            }
            let scalar = !matches!(field.r#type(), Type::Bytes | Type::Message);
            let always = scalar || matches!(field.name(), "metadata");
            let optional = field.label() == Label::Optional;
            if proto2 && always && optional && field.name() != "vote_committed" {
                field.set_label(Label::Required);
            }
        }
    }
    files
}

fn without_comments(mut files: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut files.file {
        file.source_code_info = None;
    }
    files
}

fn methods(files: &FileDescriptorSet) -> String {
    let mut out = String::from(
        "// This file is @generated by `cargo xtask codegen`.\n\
         /// Every method of every service, in the order of the .proto files.\n\
         pub const METHODS: &[Method] = &[\n",
    );
    for file in &files.file {
        write_methods(&mut out, file);
    }
    out.push_str("];\n");
    out
}

fn write_methods(out: &mut String, file: &FileDescriptorProto) {
    for service in &file.service {
        for method in &service.method {
            let full = format!("{}.{}", file.package(), service.name());
            let written = write!(
                out,
                "    Method {{\n        path: \"/{full}/{name}\",\n        service: \"{full}\",\n        \
                 name: \"{name}\",\n        client_streaming: {},\n        server_streaming: {},\n    }},\n",
                method.client_streaming(),
                method.server_streaming(),
                name = method.name(),
            );
            written.expect("writing to a String cannot fail");
        }
    }
}

fn write(dir: &Path, output: &Output) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !output.contains_key(&*entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    for (name, content) in output {
        std::fs::write(dir.join(name), content)?;
    }
    println!("codegen: wrote {} files to {}", output.len(), dir.display());
    Ok(())
}

fn compare(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let mut stale: Vec<&str> = Vec::new();
    for (name, content) in output {
        if std::fs::read(dir.join(name)).ok().as_ref() != Some(content) {
            stale.push(name);
        }
    }
    let on_disk = std::fs::read_dir(dir)?.count();
    if !stale.is_empty() || on_disk != output.len() {
        bail!("generated files are stale ({}); run `cargo xtask codegen`", stale.join(", "));
    }
    println!("codegen: {} files are current", output.len());
    Ok(())
}
