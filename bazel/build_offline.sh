#!/usr/bin/env bash
# Builds with Debian's Bazel (4.2.3) and without a network:
#   bazel/build_offline.sh build //csrc:_native.so //csrc:_atari.so
# Packages: bazel-bootstrap bazel-rules-java bazel-rules-proto bazel-platforms.
# Exits with 69 where they are not installed.
# PYTHON_BIN: the Python whose headers, pybind11 and MuJoCo are used (python3).
set -euo pipefail
cd "$(dirname "$0")/.."

packages="bazel-bootstrap bazel-rules-java bazel-rules-proto bazel-platforms"
rules=/usr/share/bazel/rules
platforms=/usr/share/bazel/tools/platforms
for needed in "$rules/java" "$rules/proto" "$platforms"; do
  if [[ ! -d $needed ]] || ! command -v bazel >/dev/null; then
    echo "build_offline: no bazel or no $needed." >&2
    echo "Run: apt-get install $packages" >&2
    exit 69
  fi
done

# Debian's rules_cc is newer than its Bazel understands, and the rules are
# native in this Bazel: a stand-in that passes them on is enough.
rules_cc=$PWD/build/rules_cc
mkdir -p "$rules_cc/cc"
echo 'workspace(name = "rules_cc")' >"$rules_cc/WORKSPACE"
: >"$rules_cc/BUILD"
: >"$rules_cc/cc/BUILD"
for rule in cc_library cc_binary cc_test cc_import cc_toolchain \
  cc_toolchain_suite cc_proto_library objc_library; do
  echo "$rule = native.$rule"
done >"$rules_cc/cc/defs.bzl"

verb=$1
shift
# --batch: no server stays behind.
exec bazel --batch "$verb" \
  --override_repository=rules_cc="$rules_cc" \
  --override_repository=rules_java="$rules/java" \
  --override_repository=rules_proto="$rules/proto" \
  --override_repository=platforms="$platforms" \
  "$@"
