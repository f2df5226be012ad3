#!/bin/sh
# Counts what the logs of a part of make check say was run, and what was skipped.
#   sh tests/counted.sh unit|seeds LOG...
set -eu
kind=$1
shift
case $kind in
unit)
    awk -v programs=$# '
        /^\[  PASSED  \]/ { passed += $4 }
        /^\[  SKIPPED \] [0-9]/ { skipped += $4 }
        END { printf "unit: %d tests passed, %d skipped, in %d programs under ASan and UBSan\n", passed, skipped, programs
              exit skipped && ENVIRON["SEALPOST_NO_SKIP"] != "" }' "$@"
    ;;
seeds)
    awk -v harnesses=$# '
        / files found in / { seeds += $2 }
        END { printf "seeds: %d seeds replayed through %d harnesses\n", seeds, harnesses }' "$@"
    ;;
esac
