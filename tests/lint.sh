#!/bin/sh
# Simple mistakes that a compiler does not name. Part of make check.
set -u
bad=0
report() {
    if [ -n "$2" ]; then
        echo "lint: $1:"
        echo "$2"
        bad=1
    fi
}
code="envelope sandbox storage daemon client"
report "banned call" "$(grep -rnE '\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca|system|popen)\(' --include='*.[ch]' $code bench fuzz)"
report "raw -1 as a project result" "$(grep -rnE 'enum sp_err .*return -1' --include='*.c' $code)"
report "left open" "$(grep -rnE '\b(TODO|FIXME|XXX|HACK)\b' --include='*.[ch]' --include='*.py' --include='*.sh' $code tests fuzz bench hardening | grep -v tests/lint.sh)"
report "file over 500 lines" "$(find $code fuzz bench -name '*.c' -exec awk 'END { if (NR > 500) print FILENAME " (" NR ")" }' {} \;)"
report "function over 80 lines" "$(find $code tests fuzz bench -name '*.c' -exec awk '
    /^\{/ { s = FNR } /^[a-zA-Z].*\) *\{$/ { s = FNR }
    /^\}/ { if (s && FNR - s > 80) print FILENAME ":" s; s = 0 }' {} \;)"
report "envelope/ and storage/ never end the process" "$(grep -rnE '\b(exit|_exit|abort)\(' --include='*.c' envelope storage/lmdb*.c)"
report "markup or code out of text in the page" "$(grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function' page/*.js)"
report "sealed.js is to be read in one go (400 lines)" "$(awk 'END { if (NR > 400) print NR }' page/sealed.js)"
report "the lock file names a host" "$(grep -nE '"resolved"|registry' page/package-lock.json)"
if command -v clang-format >/dev/null 2>&1; then
    report "not formatted (clang-format -i)" "$(git ls-files '*.c' '*.h' | xargs clang-format --dry-run 2>&1 | grep -oE '^[^: ]+\.[ch]:' | sort -u)"
fi
[ $bad = 0 ] && echo "lint: clean"
exit $bad
