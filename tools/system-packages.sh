#!/bin/sh
# Installs the system packages that nodeseal needs and that are missing; asks for no rights when none is.
# Arguments: the interpreter; "bench" for what benchmarks need besides.
set -eu

python=$1
missing=

need() { # PACKAGE COMMAND...: the command succeeds when the package is not needed
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need swtpm command -v swtpm
need swtpm-tools command -v swtpm_setup
need tpm2-tools command -v tpm2_checkquote
need softhsm2 command -v softhsm2-util
need openssl command -v openssl
need openssh-client command -v ssh-keygen
need nftables command -v nft
need iproute2 command -v tc
need golang-go command -v go
need golang-golang-x-mod-dev test -d /usr/share/gocode/src/golang.org/x/mod/sumdb
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdio.h
need pkg-config command -v pkg-config
need libtss2-dev pkg-config --exists tss2-esys tss2-mu tss2-rc tss2-tctildr
need python3 command -v "$python"
need python3-venv "$python" -c 'import ensurepip, venv'
need python3-dev "$python" -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("include")) / "Python.h").stat()'
# What tensorizer calls, one of the benchmarks' peers.
[ "${2-}" != bench ] || need libsodium23 "$python" -c 'import ctypes; ctypes.CDLL("libsodium.so.23")'

[ -n "$missing" ] || exit 0

install="apt-get install --yes --no-install-recommends$missing"
if ! command -v apt-get >/dev/null; then
    echo "nodeseal: missing:$missing" >&2
    echo "  (names of Debian 12, 13 and Ubuntu 24.04; install what carries them here, then run make again)" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root="env DEBIAN_FRONTEND=noninteractive"
elif command -v sudo >/dev/null; then
    as_root="sudo env DEBIAN_FRONTEND=noninteractive"
else
    echo "nodeseal: missing:$missing" >&2
    echo "  neither root nor sudo here; have an administrator run: $install" >&2
    exit 1
fi
echo "nodeseal: installing system packages:$missing"
# The package lists may be absent or old; fetch them only when the packages cannot be had without.
# shellcheck disable=SC2086 # the lists are words on purpose
$as_root $install || { $as_root apt-get update && $as_root $install; }
