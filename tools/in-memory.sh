#!/bin/sh
# Runs a command with its temporary files in memory, where there is room for them: a test's store syncs hundreds of times, and a
# disk takes its milliseconds for each. What needs a disk finds one in SMPPD_TEST_DISK. What a command that failed has left is
# kept, and named.
set -u
SMPPD_TEST_DISK=${TMPDIR:-/tmp}
export SMPPD_TEST_DISK
# Docker gives 64 MB; a whole run takes less than 2 GB.
free=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $6 == "/dev/shm" { print $4 }')
[ "${free:-0}" -gt 4000000 ] && [ -w /dev/shm ] || exec "$@"
TMPDIR=$(mktemp -d /dev/shm/t.XXXXXX) || exit
export TMPDIR
# Some tests run programs as another user, as in /tmp.
chmod 1777 "$TMPDIR"
trap 'rm -rf "$TMPDIR"; exit 130' INT TERM HUP
"$@"
status=$?
if [ "$status" = 0 ]; then
    rm -rf "$TMPDIR"
else
    echo "smppd: the tests' files are in $TMPDIR"
fi
exit "$status"
