#!/usr/bin/env bash
# Builds dist/smppd_VERSION_ARCH.deb (`make deb`): a virtual environment of Debian's own Python in /usr/lib/smppd, with the locked packages
# and the wheel that `make wheel` left in dist/; unit, configuration, logrotate, man pages and completion around it.
# REVISION (default 1) is the package's own number behind smppd's. Needs dpkg-deb, and a network or pip's cache for the packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=$PWD/.venv/bin/python

fail() {
    echo "deb: $*" >&2
    exit 1
}

wheel=$(ls dist/smppd-*.whl 2>/dev/null) || fail "there is no wheel in dist: make deb makes it first"
pages=dist/pages
[ -s "$pages/man/smppd.1" ] || fail "there are no man pages in $pages: make deb makes them first"
[ -s dist/smppd.cdx.json ] || fail "there is no dist/smppd.cdx.json: make deb makes it first"
command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing"

# The Python of the system that the package is for: the one that the wheel was compiled for, as Debian installs it.
abi=$(basename "$wheel" | cut -d- -f3)
[[ $abi == cp3* ]] || fail "$wheel is not compiled: make wheel needs a C compiler"
minor=${abi#cp3}
python=/usr/bin/python3.$minor
[ -x "$python" ] || fail "$python is missing: build on the Debian whose package it will be, with that Python (make distclean, PYTHON=…)"

version=$("$tool" -c 'import smppd; print(smppd.__version__)')-${REVISION:-1}
architecture=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
stage=$root/stage
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
umask 022
# make sets it for the tests; the package has its compiled files where Python looks for them.
unset PYTHONPYCACHEPREFIX

home=usr/lib/smppd
mkdir -p "$stage/usr/lib"
"$python" -m venv --without-pip "$stage/$home"
"$tool" -m pip --python "$stage/$home/bin/python" install --quiet --no-compile --require-hashes --only-binary :all: \
    -r requirements/runtime.txt
"$tool" -m pip --python "$stage/$home/bin/python" install --quiet --no-compile --no-deps --no-index "$wheel"

# A virtual environment knows where it was made: its scripts and pyvenv.cfg go, or say where it will be.
find "$stage/$home/bin" -mindepth 1 -not -name 'python*' -delete
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$stage/$home/pyvenv.cfg"
cat >"$stage/$home/bin/smppd" <<'SCRIPT'
#!/usr/lib/smppd/bin/python3
import sys

# What dpkg put here is all that is here, also when root runs a command.
sys.dont_write_bytecode = True

from smppd.__main__ import main

sys.exit(main())
SCRIPT
chmod 755 "$stage/$home/bin/smppd"
rm -rf "$stage/$home/include" "$stage/$home/share"
find "$stage/$home" -name direct_url.json -delete
# Compiled here, once: nobody may write below /usr/lib/smppd when it runs. Times do not matter, the contents' hash does.
"$python" -m compileall -q --invalidation-mode unchecked-hash -s "$stage" -p / "$stage/$home/lib"
[ -n "$(find "$stage/$home" -name '*.pyc' -print -quit)" ] || fail "nothing was compiled"
named=$(grep -rIl -e "$root" "$stage" || true)
[ -z "$named" ] || fail "files name the directory in which they were built: $named"

# What the libraries inside ask the system for is what `Depends` names, and no more.
needed=$(find "$stage/$home" -name '*.so*' -type f -exec objdump -p {} + | awk '$1 == "NEEDED" { print $2 }' | sort -u)
bundled=$(find "$stage/$home" -name '*.so*' -type f -printf '%f\n')
for library in $needed; do
    case "$library" in
    libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux-*.so.* | libgcc_s.so.1 | libstdc++.so.6) ;;
    *) grep -qxF "$library" <<<"$bundled" || fail "$library is needed, and Depends does not name it" ;;
    esac
done
libc=$(find "$stage/$home" -name '*.so*' -type f -exec objdump -T {} + | grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -uV | tail -1)

install -D -m 644 deploy/smppd.yaml "$stage/etc/smppd/smppd.yaml"
install -d -m 700 "$stage/etc/smppd/credentials"
install -D -m 644 deploy/deb/smppd.logrotate "$stage/etc/logrotate.d/smppd"
unit=$stage/usr/lib/systemd/system/smppd.service
[ "$minor" -gt 11 ] || unit=$stage/lib/systemd/system/smppd.service
mkdir -p "$(dirname "$unit")"
# The package has a user of its own, which owns the store over all versions; the paths are the package's.
sed -e 's#/opt/smppd/bin/#/usr/lib/smppd/bin/#; s#^DynamicUser=yes$#Group=smppd#' \
    -e '1s/.*/# systemd unit of the package smppd. Changes belong into a drop-in: systemctl edit smppd./' deploy/smppd.service >"$unit"
if [ "$minor" -le 11 ]; then # Debian 12 has systemd 252
    sed -i -e 's/^Type=notify-reload$/Type=notify\nExecReload=kill -HUP $MAINPID/' "$unit"
fi
mkdir -p "$stage/usr/bin" && ln -s ../lib/smppd/bin/smppd "$stage/usr/bin/smppd"

mkdir -p "$stage/usr/share/man/man1"
for page in "$pages"/man/*.1; do gzip -9n <"$page" >"$stage/usr/share/man/man1/$(basename "$page").gz"; done
install -D -m 644 "$pages/smppd" "$stage/usr/share/bash-completion/completions/smppd"
install -D -m 644 "$pages/_smppd" "$stage/usr/share/zsh/vendor-completions/_smppd"
doc=$stage/usr/share/doc/smppd
install -D -m 644 deploy/deb/copyright "$doc/copyright"
install -m 644 deploy/deb/README.Debian dist/smppd.cdx.json docs/alerts.yml docs/grafana-dashboard.json config/smppd.yaml "$doc/"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
printf 'smppd (%s) unstable; urgency=medium\n\n  * changelog.gz says what changed.\n\n -- The smppd maintainers <smppd@localhost>  %s\n' \
    "$version" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"

mkdir "$stage/DEBIAN"
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@PYTHON@/3.$minor/; s/@BELOW@/3.$((minor + 1))/" \
    -e "s/@PYTHON_PACKAGE@/python3.$minor/; s/@LIBC@/$libc/" deploy/deb/control >"$stage/DEBIAN/control"
echo "Installed-Size: $(du -sk --apparent-size "$stage" | cut -f1)" >>"$stage/DEBIAN/control"
printf '/etc/smppd/smppd.yaml\n/etc/logrotate.d/smppd\n' >"$stage/DEBIAN/conffiles"
install -m 755 deploy/deb/postinst deploy/deb/prerm deploy/deb/postrm "$stage/DEBIAN/"
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$stage" "dist/smppd_${version}_${architecture}.deb" >/dev/null
ls -l "dist/smppd_${version}_${architecture}.deb"
