#!/bin/sh
# Installs the Debian packages that a target needs, when run as root; says which are missing otherwise.
#   sh hardening/deps.sh build|page|browser|demo|check|fuzz|bench|deb|package
set -eu
build="libc6-dev pkg-config libssl-dev libsodium-dev libseccomp-dev liblmdb-dev libevent-dev libjansson-dev
    libinih-dev libidn2-dev libcurl4-openssl-dev libunbound-dev dns-root-data"
# Node from wherever it is; from Debian where it is not.
page=""
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || page="nodejs npm"
browser="$page openssl curl"
command -v chromium >/dev/null 2>&1 || browser="$browser chromium fonts-dejavu-core"
demo="procps python3 swaks openssl ca-certificates libnet-ssleay-perl"
check="$demo libcmocka-dev python3-pytest python3-pytest-xdist python3-cryptography postfix python3-nacl msmtp
    curl testssl.sh nsd ldnsutils python3-dkim python3-prometheus-client systemd sasl2-bin libsasl2-modules"
fuzz="clang libclang-rt-dev llvm"
deb="build-essential debhelper dpkg-dev lintian git"
bench="dovecot-core dovecot-lmtpd postfix nginx"
case "${1:-}" in
build) want="$build" ;;
page) want="$page" ;;
browser) want="$build $browser" ;;
demo) want="$build $demo" ;;
check) want="$build $check $fuzz" ;;
fuzz) want="$build $fuzz" ;;
deb) want="$build $deb" ;;
package) want="$build $page $deb debootstrap systemd-container python3 openssl" ;;
bench) want="$build $demo $bench" ;;
*) echo "usage: deps.sh build|page|browser|demo|check|fuzz|bench|deb|package" >&2; exit 2 ;;
esac
# One at a time, also under make -j: apt-get does not wait for another.
exec 9<"$0"
flock 9
missing=""
for package in $want; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
# Other senders than Postfix, which they cannot be installed beside: their libraries are installed, they
# themselves are unpacked. Only root has tests that run them.
senders=""
[ "$1" != check ] || [ "$(id -u)" != 0 ] || [ -x "${B:-build}/senders/usr/sbin/exim4" ] ||
    senders="exim4-daemon-light opensmtpd"
[ -n "$missing$senders" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages:$missing" >&2
    echo "install them with: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing${senders:+ $senders (unpacked)}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# A mail server or two come as test tools: none of them is started.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || apt-get install -y -qq --no-install-recommends $missing >/dev/null
if [ -n "$senders" ]; then
    # shellcheck disable=SC2046,SC2086
    apt-get install -y -qq --no-install-recommends \
        $(apt-cache depends $senders | sed -n 's/^ *Depends: \(lib[^<]*\)$/\1/p') >/dev/null
    mkdir -p "${B:-build}"
    debs=$(mktemp -d)
    chmod 755 "$debs"
    # shellcheck disable=SC2086
    (cd "$debs" && apt-get download -qq $senders 2>/dev/null)
    for deb in "$debs"/*.deb; do
        dpkg-deb -x "$deb" "${B:-build}/senders"
    done
    rm -rf "$debs"
fi
