#!/bin/sh
# make check: runs every part, also after one that failed; at the end, what ran and how long it took.
set -u
B=${B:-build}
make=${MAKE:-make}
logs=$B/check
rm -rf "$logs"
mkdir -p "$logs"
began=$(date +%s)
summary="" failed=""

minutes() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# part NAME, what its output says of what ran (sed -nE), its command
part() {
    name=$1 said=$2
    shift 2
    start=$(date +%s)
    printf '\n== %s\n' "$name"
    { "$@" 2>&1 || echo "$name" >"$logs/$name.failed"; } | tee "$logs/$name.log"
    took=$(($(date +%s) - start))
    ran=$(sed -nE "$said" "$logs/$name.log" | tr '\n' ' ' | sed 's/ *$//')
    if [ -n "${SEALPOST_NO_SKIP:-}" ] && echo "$ran" | grep -qE '\b[1-9][0-9]* skipped'; then
        touch "$logs/$name.failed"
    fi
    if [ -e "$logs/$name.failed" ]; then
        failed="$failed $name"
        ran="FAILED ${ran:+($ran)}"
    fi
    summary="$summary$(printf '  %-8s %7s  %s' "$name" "$(minutes $took)" "$ran")
"
}

jobs=$(nproc)
part lint 's/^lint: //p' "$make" --no-print-directory lint
part unit 's/^unit: //p' "$make" --no-print-directory -k -j"$jobs" unit
part seeds 's/^seeds: //p' "$make" --no-print-directory -k -j"$jobs" seeds
part system 's/^(=+ )?([0-9]+ (passed|failed).*) in [0-9.]+s.*/\2/p' "$make" --no-print-directory -j"$jobs" system
part browser 's/^(#|ℹ) (pass|fail|skipped|todo) ([1-9][0-9]*)$/\3 \2/p' "$make" --no-print-directory browser

printf '\n== what ran (minutes)\n%s  %-8s %7s\n' "$summary" all "$(minutes $(($(date +%s) - began)))"
[ -z "$failed" ] || { echo "make check: FAILED:$failed"; exit 1; }
echo "make check: all passed"
