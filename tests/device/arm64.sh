#!/bin/bash
# The shipped model's bundle on an emulated 64-bit Arm machine: opened, its goldens replayed, a picture drawn, compiled.
#
#   sudo tests/device/arm64.sh          writes tests/device/arm64.log; minutes, root, Debian on x86-64
#
# CPython 3.10 with numpy 1.26, as JetPack 6 has them; the pure part of the standard library is taken from a python3.10 of
# this machine (PYTHON310=PATH). Where there is none, Debian's own Python is run instead, and the log says so.
# onnxruntime is the last for Python 3.10; those from 1.28 on crash the emulator at their import (seen with qemu 7.2).
# Nothing but Debian's and Python's configured indexes is asked.
# All is made in one temporary folder, mounts lie in a namespace of their own, and both go at the end, however it ends.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
HERE=$ROOT/tests/device
LOG=${LOG:-$HERE/arm64.log}
MODEL=${MODEL:-people-128}
LIMIT=${LIMIT:-900}  # seconds for each user space
CPU=${CPU:-cortex-a76}  # the nearest that the emulator has to the Cortex-A78AE of an Orin: no SVE, no SME
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
PACKAGES=('numpy==1.26.*' 'onnxruntime<1.24' 'opencv-python-headless>=4.11,<4.12' 'pydantic>=2.7' 'typing-extensions>=4.6' 'pyyaml>=6' 'typer>=0.12' 'rich>=13')
PLATFORMS=(manylinux2014_aarch64 manylinux_2_17_aarch64 manylinux_2_27_aarch64 manylinux_2_28_aarch64 manylinux_2_34_aarch64)

say() { echo "$*" >&2; }
[ "$(id -u)" = 0 ] || { say "run as root: it makes a user space and mounts"; exit 2; }
[ -x "$PYTHON" ] || { say "no $PYTHON: make setup, or PYTHON=PATH of an environment with flowpose and hatchling"; exit 2; }

exec 9> "${TMPDIR:-/tmp}/flowpose-arm64.lock"
flock 9  # two at a time would take the emulation away from each other
WORK=$(mktemp -d)
MOUNTED='' ENABLED=''
cleanup() {
    [ -z "$ENABLED" ] || update-binfmts --disable qemu-aarch64 || true
    [ -z "$MOUNTED" ] || umount /proc/sys/fs/binfmt_misc || true
    rm -rf --one-file-system "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

install_tools() {
    local wanted=(debootstrap qemu-user-static binfmt-support gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    dpkg -s "${wanted[@]}" > /dev/null 2>&1 && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${wanted[@]}" > "$WORK/apt.log" 2>&1 || { tail "$WORK/apt.log" >&2; exit 1; }
}

enable_emulation() {
    local at=/proc/sys/fs/binfmt_misc
    mountpoint -q $at || { mount -t binfmt_misc binfmt_misc $at; MOUNTED=yes; }
    [ -e $at/qemu-aarch64 ] || { update-binfmts --enable qemu-aarch64; ENABLED=yes; }
}

# Debian's packages unpacked, not configured: a user space to run programs in, in a minute and not ten.
make_user_space() {
    local codename mirror package
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v c="$codename" '$2 == c {print $1; exit}')
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,libgomp1,libstdc++6,libffi8 \
        "$codename" "$WORK/root" "$mirror" > "$WORK/debootstrap.log" 2>&1 || { tail "$WORK/debootstrap.log" >&2; exit 1; }
    for package in "$WORK"/root/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$WORK/root"
    done
    rm -rf "$WORK/root/proc" "$WORK"/root/var/cache/apt/archives/*.deb
    mkdir -p "$WORK"/root/{proc,sys,work}
}

# In the user space, with its own /proc and a view of /sys (onnxruntime reads the processors there).
inside() {
    CPU=$CPU timeout --kill-after=10 "$LIMIT" unshare --mount --propagation private sh -c '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        exec chroot "$root" env -i QEMU_CPU=$CPU PATH=/usr/bin:/bin HOME=/work LANG=C.UTF-8 "$@"' sh "$WORK/root" "$@"
}

# fetch INTERPRETER VERSION FOLDER PACKAGE...: arm64 wheels, unpacked; the interpreter must be of that version.
fetch() {
    local interpreter=$1 version=$2 folder=$3 platform
    shift 3
    local tags=()
    for platform in "${PLATFORMS[@]}"; do tags+=(--platform "$platform"); done
    "$interpreter" -m pip install -q --root-user-action=ignore --target "$folder" "${tags[@]}" --implementation cp \
        --python-version "$version" --only-binary :all: "$@" 2>&1 | { grep -v WARNING >&2 || true; }
}

find_python310() {
    local each
    for each in "${PYTHON310:-}" "$(command -v python3.10 || true)" "$HOME"/.pyenv/versions/3.10.*/bin/python3.10; do
        if [ -n "$each" ] && "$each" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2> /dev/null; then
            echo "$each"
            return
        fi
    done
}

# CPython 3.10 for arm64: the interpreter and compiled modules of a wheel, the pure modules of this machine's python3.10.
make_python310() {
    local host=$1 prefix=$WORK/root/opt/python3.10 lib
    lib=$prefix/lib/python3.10
    mkdir -p "$prefix/bin" "$lib/lib-dynload"
    "$host" -m pip download -q --no-deps -d "$WORK" --only-binary :all: --platform manylinux2014_aarch64 \
        --implementation cp --python-version 3.10 panda3d 2>&1 | { grep -v WARNING >&2 || true; }
    "$PYTHON" -m zipfile -e "$WORK"/panda3d-*.whl "$WORK/panda3d"
    tar -c -C "$("$host" -c 'import os; print(os.path.dirname(os.__file__))')" --exclude=site-packages --exclude=lib-dynload \
        --exclude=test --exclude=__pycache__ --exclude='config-3*' . | tar -x -C "$lib"
    cp "$WORK"/panda3d/deploy_libs/*.so "$lib/lib-dynload"
    cp "$WORK"/panda3d/deploy_libs/_sysconfigdata_*.py "$lib"
    rm "$lib"/lib-dynload/{_ssl,_hashlib}.*  # need a newer OpenSSL than Debian's; hashlib goes on without
    ln -s /usr/lib/aarch64-linux-gnu/libffi.so.8 "$lib/lib-dynload/libffi.so.6"  # ctypes is imported, not used
    install -m 755 "$WORK/panda3d/panda3d_tools/deploy-stub" "$prefix/bin"
    aarch64-linux-gnu-gcc -shared -fPIC -O1 -Wall -o "$prefix/bin/python310.so" "$HERE/python310.c" -ldl
    cat > "$prefix/bin/python3.10" <<'WRAPPER'
#!/bin/sh
export PYTHONHOME=/opt/python3.10 PYTHON_PROGRAM=/opt/python3.10/bin/python3.10
LD_PRELOAD=/opt/python3.10/bin/python310.so exec /opt/python3.10/bin/deploy-stub "$@"
WRAPPER
    chmod 755 "$prefix/bin/python3.10"
}

# run PYTHON: the program in the user space, with the packages of /work/packages.
run() {
    inside env PYTHONPATH=/work/packages "$1" /work/arm64_inside.py /work/bundle.tar /work/out 2> "$WORK/err" \
        || { local status=$?; tail -5 "$WORK/err"; echo "FAILED with exit status $status"; return 1; }
}

start=$(date +%s)
install_tools
enable_emulation
make_user_space
say "user space made after $(($(date +%s) - start)) s"

cp "$HERE/arm64_inside.py" "$WORK/root/work"
"$PYTHON" - "$MODEL" "$WORK" <<'SEAL'
import sys
from pathlib import Path
from flowpose.bundle import seal
from flowpose.own_wheel import build_wheel
work = Path(sys.argv[2])
seal(sys.argv[1], ["cpu-arm64"], work / "root/work/bundle.tar", wheel=build_wheel(work))
SEAL
tar -xf "$WORK/root/work/bundle.tar" -C "$WORK" wheel

{
    echo "tests/device/arm64.sh: $MODEL on an emulated arm64 machine ($CPU, $(qemu-aarch64-static --version | head -1)); times are the emulator's"
    echo "bundle: $(stat -c %s "$WORK/root/work/bundle.tar") bytes, sha256 $(sha256sum < "$WORK/root/work/bundle.tar" | cut -d' ' -f1)"
    failed=''
    host310=$(find_python310)
    interpreter=/opt/python3.10/bin/python3.10
    if [ -n "$host310" ]; then
        make_python310 "$host310"
    else
        interpreter=python3 host310=$PYTHON
        echo "this machine has no python3.10: what follows is Debian's Python"
    fi
    version=$(inside "$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fetch "$host310" "$version" "$WORK/root/work/packages" "${PACKAGES[@]}"
    fetch "$host310" "$version" "$WORK/root/work/packages" --no-deps "$WORK"/wheel/*.whl
    run "$interpreter" || failed=yes
    echo "${failed:+FAILED }after $(($(date +%s) - start)) s"
} | tee "$WORK/log"
cp "$WORK/log" "$LOG"
! grep -q ^FAILED "$LOG"
