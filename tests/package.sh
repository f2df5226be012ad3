#!/bin/sh
# The Debian package in a bare system of a suite: made with debootstrap, built there (or here, when this is that
# suite), then all that tests/package.py does, then under the suite's systemd. What takes long is kept as tar files in build/chroot/.
#   sh tests/package.sh bookworm|trixie     as root, with a Debian mirror and the npm registry in reach
set -eu
suite=${1:-bookworm}
B=$(cd "${B:-build}" && pwd)
C=$B/chroot
[ "$(id -u)" = 0 ] || { echo "package.sh: only root can make another system" >&2; exit 1; }
. /etc/os-release
here=$VERSION_CODENAME
mkdir -p "$C"
work=$(mktemp -d "$C/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
export DEBIAN_FRONTEND=noninteractive
say() { printf '== %s\n' "$*"; }

# What runs in it ends with it: no process and no mount outlives the command.
inside() { # ROOT COMMAND...
    unshare --mount --pid --ipc --uts --fork --kill-child sh -c '
        root=$1; shift
        mount -t proc proc "$root/proc" && mount -t proc proc /proc
        mount -t tmpfs tmpfs "$root/dev/shm" && exec "$@"' sh "$@"
}
within() { # ROOT COMMAND...: in its root directory
    root=$1; shift
    inside "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive NODE_EXTRA_CA_CERTS=/etc/ssl/certs/here.crt chroot "$root" "$@"
}
keep() { # ROOT NAME: as a tar file, whole or not at all
    tar -C "$1" --one-file-system -cf "$C/$2.new" . && mv "$C/$2.new" "$C/$2"
}

# The mirror, the trust and the manners of apt are this machine's, the suite is not.
if [ ! -e "$C/$suite.tar" ]; then
    say "a bare $suite"
    mirror=$(sed -n 's/^URIs: *\(http[^ ]*debian\)\/*$/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
    debootstrap --variant=minbase "$suite" "$work/base" "${mirror:-http://deb.debian.org/debian}" \
        >"$C/$suite.log" 2>&1 || { tail -20 "$C/$suite.log"; exit 1; }
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        rm -f "$work/base/etc/apt/sources.list"
        sed "s/$here/$suite/g" /etc/apt/sources.list.d/debian.sources >"$work/base/etc/apt/sources.list.d/debian.sources"
    fi
    cp /etc/apt/apt.conf.d/* "$work/base/etc/apt/apt.conf.d/" 2>/dev/null || true
    within "$work/base" apt-get update -qq
    keep "$work/base" "$suite.tar"
fi

say "the package, built for $suite"
if [ "$suite" = "$here" ]; then
    make --no-print-directory deb >"$C/$suite-deb.log" 2>&1 || { tail -40 "$C/$suite-deb.log"; exit 1; }
    cp "$B"/deb/sealpost_*.deb "$work/sealpost.deb"
else
    mkdir "$work/build"
    # The manners of apt are this machine's, and may be files of a package that is installed there: no question.
    if [ -e "$C/$suite-build.tar" ]; then
        tar -C "$work/build" -xf "$C/$suite-build.tar"
    else
        tar -C "$work/build" -xf "$C/$suite.tar"
        echo 'Dpkg::Options:: "--force-confold";' >"$work/build/etc/apt/apt.conf.d/99quiet"
        within "$work/build" apt-get install -y -qq --no-install-recommends gcc make ca-certificates \
            >"$C/$suite-build.log" 2>&1
        cp hardening/deps.sh "$work/build/root/"
        cp /etc/ssl/certs/ca-certificates.crt "$work/build/etc/ssl/certs/here.crt"
        for target in page deb; do
            within "$work/build" sh /root/deps.sh $target >>"$C/$suite-build.log" 2>&1 ||
                { tail -20 "$C/$suite-build.log"; exit 1; }
        done
        keep "$work/build" "$suite-build.tar"
    fi
    mkdir "$work/build/src"
    git ls-files -z | tar -c --null -T - | tar -x -C "$work/build/src"
    within "$work/build" sh -ec 'cd /src; git init -q .; git add -A; make deb' >"$C/$suite-deb.log" 2>&1 ||
        { tail -40 "$C/$suite-deb.log"; exit 1; }
    cp "$work/build"/src/build/deb/sealpost_*.deb "$work/sealpost.deb"
    rm -rf "$work/build"
fi

say "the package, in a bare $suite"
mkdir "$work/root"
tar -C "$work/root" -xf "$C/$suite.tar"
inside "$work/root" python3 tests/package.py "$work/root" "$work/sealpost.deb"
rm -rf "$work/root"

# Its own systemd starts it, with all that the unit restricts: no layer of it is imitated. nspawn would hold back
# what a real machine has (locked memory, Landlock); the network is loopback.
say "the unit, under the systemd of $suite"
mkdir "$work/boot"
if [ -e "$C/$suite-systemd.tar" ]; then
    tar -C "$work/boot" -xf "$C/$suite-systemd.tar"
else
    tar -C "$work/boot" -xf "$C/$suite.tar"
    within "$work/boot" apt-get install -y -qq --no-install-recommends systemd systemd-sysv dbus procps \
        >"$C/$suite-systemd.log" 2>&1 || { tail -20 "$C/$suite-systemd.log"; exit 1; }
    keep "$work/boot" "$suite-systemd.tar"
fi
cp "$work/sealpost.deb" tests/package_boot.sh tests/package_life.sh "$work/boot/root/"
echo "127.0.0.1 localhost mail.example.org" >"$work/boot/etc/hosts"
cat >"$work/boot/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=sealpost.service
[Service]
Type=oneshot
ExecStart=sh /root/package_boot.sh
[Install]
WantedBy=multi-user.target
UNIT
within "$work/boot" sh -ec 'apt-get install -y -qq --no-install-recommends /root/sealpost.deb; sealpostctl setup
    systemctl enable sealpost try' >"$C/$suite-boot.log" 2>&1 || { tail -20 "$C/$suite-boot.log"; exit 1; }
case $(stat -f -c %T "$work") in
ext2/ext3 | xfs | tmpfs) ;;
*) sed -i 's/^#slots = .*/slots = accept-cow/' "$work/boot/etc/sealpost/sealpost.conf" ;;
esac
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 600 systemd-nspawn -q -D "$work/boot" --machine="sealpost-$suite" \
    --register=no --keep-unit --private-network --console=pipe --capability=all --system-call-filter="memfd_secret \
    landlock_create_ruleset landlock_add_rule landlock_restrict_self" --boot </dev/null >>"$C/$suite-boot.log" 2>&1 || :
sed 's/^/  /' "$work/boot/root/boot.out"
grep -q '^the unit: good$' "$work/boot/root/boot.out"
say "package: good on $suite"
