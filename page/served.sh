#!/bin/sh
# What page does a server serve? Prints, from what GET gives, the two hashes that `sealpostctl status` and the
# audit log's `start` name: of the page, and of the files that it loads. Needs curl and sha256sum alone.
#   sh page/served.sh https://mail.example.org/m/LINK_ID
# A link that works, since only that has a page; leave out what stands behind its "#".
# CURL may hold another curl command line, as CURL="curl --cacert ca.pem".
set -eu
link=${1:?usage: served.sh LINK}
link=${link%%#*} # whoever gave all of it: nobody is told the key
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/files"
# shellcheck disable=SC2086 # CURL is a command line
get() { ${CURL:-curl} -sSf -o "$1" "$2"; }
get "$dir/page" "$link"
for path in $(grep -oE '"/page/[0-9a-f]{20}/[a-z0-9]+\.[a-z]+"' "$dir/page" | tr -d '"' | LC_ALL=C sort -u); do
    get "$dir/files/${path##*/}" "${link%%/m/*}$path"
done
printf 'page_sha256 %s\n' "$(sha256sum <"$dir/page" | cut -c1-64)"
printf 'page_files_sha256 %s\n' "$(cd "$dir/files" && LC_ALL=C && export LC_ALL && sha256sum -- * | sha256sum | cut -c1-64)"
