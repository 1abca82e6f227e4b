#!/usr/bin/env bash
# The package's life in a Debian root of its own (`make deb-steps`), built from a clean copy of what git tracks: it is installed, its
# store made and messages accepted into it, upgraded, removed, installed again and purged.
# There is no systemd as process 1 in such a root: the unit's own commands are run by tools/unit.py, as the package's user and with its
# files, and what the maintainer scripts would ask systemctl is left out by them. Needs root, debootstrap, and a network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || { echo "deb-steps: needs root, for a root of its own" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "deb-steps: debootstrap is missing (apt install debootstrap)" >&2; exit 1; }
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf --one-file-system "$work"' EXIT
step() { echo "deb-steps: $*"; }

# DEB=FILE: a package that was built before, from this checkout; only its life is played then. BASE=FILE: a root as a tar archive.
source=$PWD
if [ -n "${DEB:-}" ]; then
    cp "$DEB" "$work/first.deb"
else
    step "a package from a clean copy"
    source=$work/src
    mkdir "$source"
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$source"
    # The Python of the packages is Debian's; what makes them is a Python of the same version.
    (cd "$source" && unset VIRTUAL_ENV PYTHONPATH MAKEFLAGS MAKELEVEL && PYTHON=${PYTHON:-python3.11} make deb)
    cp "$source"/dist/*.deb "$work/first.deb"
fi
step "the version after it: the same files under the next number"
dpkg-deb --raw-extract "$work/first.deb" "$work/next"
sed -i 's/^\(Version: .*\)-1$/\1-2/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip --build "$work/next" "$work/second.deb" >/dev/null
rm -rf "$work/next"
dpkg-deb --info "$work/first.deb"

step "a root with nothing in it but Debian's base"
root=$work/root
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
# Where this machine's own apt takes the base of this release from.
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(IDENTIFIER)' |
    awk -v suite="$suite" '$2 == suite && $3 == "main" && $4 == "Packages" { print $1; exit }')
packages=python3,adduser,init-system-helpers,man-db,bash-completion,logrotate
if [ -n "${BASE:-}" ]; then
    mkdir "$root" && tar --extract --file "$BASE" --directory "$root"
elif ! debootstrap --variant=minbase --include=$packages "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" >"$work/log" 2>&1; then
    tail -20 "$work/log" >&2
    exit 1
fi
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 755 "$root/usr/sbin/policy-rc.d"
mount --bind /dev "$root/dev" 2>/dev/null || mknod -m 666 "$root/dev/urandom" c 1 9 2>/dev/null || true
mount -t proc proc "$root/proc"
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT

step "install"
cp "$work/first.deb" "$work/second.deb" "$root/"
in_root dpkg --install /first.deb
in_root smppd --version | grep compiled
in_root getent passwd smppd
[ "$(in_root stat -c '%a %U' /var/lib/smppd)" = "700 smppd" ]
[ "$(in_root stat -c '%a %U' /etc/smppd/credentials)" = "700 root" ]
in_root sh -c 'man smppd-keys | head -5'
in_root logrotate --debug /etc/logrotate.d/smppd 2>&1 | grep -i error && exit 1
in_root bash -c 'source /usr/share/bash-completion/bash_completion; source /usr/share/bash-completion/completions/smppd
    COMP_WORDS=(smppd key); COMP_CWORD=1; _shtab_smppd key; [[ " ${COMPREPLY[*]} " == *" keys "* ]]'

step "configure, start, accept messages, stop"
PYTHON=$source/.venv/bin/python "$source/certs/make.sh" "$work/made" >/dev/null
install -m 644 "$work/made/server.pem" "$root/etc/smppd/server.pem"
install -m 600 "$work/made/server.key" "$root/etc/smppd/credentials/server.key"
install -m 600 /dev/stdin "$root/etc/smppd/credentials/carrier-a" <<<"not a real one"
(cd "$source" && .venv/bin/python -m tools.debroot prepare "$root")
in_root env CREDENTIALS_DIRECTORY=/etc/smppd/credentials smppd keys init
in_root chown -R smppd:smppd /var/lib/smppd
in_root env CREDENTIALS_DIRECTORY=/etc/smppd/credentials smppd check
(cd "$source" && .venv/bin/python -m tools.debroot accept "$root" 10)
before=$(in_root sha256sum /etc/smppd/credentials/kek)

step "upgrade"
in_root dpkg --install /second.deb
in_root dpkg-query --show smppd | grep -- '-2$'
[ "$before" = "$(in_root sha256sum /etc/smppd/credentials/kek)" ]
(cd "$source" && .venv/bin/python -m tools.debroot kept "$root" 10)

step "remove: the store and its keys stay"
in_root dpkg --remove smppd
[ -e "$root/var/lib/smppd/data.db" ] && [ -e "$root/etc/smppd/credentials/kek" ] && [ ! -e "$root/usr/lib/smppd/bin" ]

step "install again, and find the messages"
in_root dpkg --install /second.deb
(cd "$source" && .venv/bin/python -m tools.debroot kept "$root" 10)

step "purge: what is people's stays, what is ours goes"
in_root dpkg --purge smppd
[ -e "$root/var/lib/smppd/data.db" ] && [ -e "$root/etc/smppd/credentials/kek" ]
[ ! -e "$root/etc/smppd/smppd.yaml" ] && [ ! -e "$root/etc/logrotate.d/smppd" ] && [ ! -e "$root/usr/lib/smppd" ]
in_root getent passwd smppd >/dev/null

step "purge of a package that was never used leaves nothing"
rm -rf "$root/var/lib/smppd" "$root/etc/smppd"
in_root dpkg --install /second.deb
in_root dpkg --purge smppd
[ ! -e "$root/var/lib/smppd" ] && [ ! -e "$root/etc/smppd" ] && ! in_root getent passwd smppd
echo "deb-steps: the package installs, starts, upgrades with its store, is removed and purged"
