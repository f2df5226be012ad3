#!/bin/sh
# Does a server serve this tree's page? Compares, byte for byte, with what `make` laid out in build/page/.
#   sh page/compare.sh https://mail.example.org/m/LINK_ID [build]
# A link that works, since only that has a page; leave out what stands behind its "#".
# CURL may hold another curl command line, as CURL="curl --cacert ca.pem".
set -eu
link=${1:?usage: compare.sh LINK [BUILD]}
link=${link%%#*} # whoever gave all of it: nobody is told the key
url=${link%%/m/*}
from=${2:-build}/page
name=$(cat "$from/NAME")
got=$(mktemp)
trap 'rm -f "$got"' EXIT
bad=0
compare() { # path, file of the build
    # shellcheck disable=SC2086 # CURL is a command line
    if ${CURL:-curl} -sS -o "$got" "$url$1" && cmp -s "$got" "$from/$2"; then
        printf 'same    %s  %s\n' "$(sha256sum <"$got" | cut -c1-64)" "$2"
    else
        printf 'DIFFERS %s  %s\n' "$(sha256sum <"$got" | cut -c1-64)" "$2"
        bad=1
    fi
}
compare "${link#"$url"}" index.html
compare /m/none gone.html
for file in "$from"/*; do
    case ${file##*/} in
    NAME | index.html | gone.html | busy.html) ;;
    *) compare "/page/$name/${file##*/}" "${file##*/}" ;;
    esac
done
exit $bad
