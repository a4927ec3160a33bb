#!/bin/sh
# Everything that `iommulator connect qemu-vtd` and `qemu-prq` need, from Debian packages: QEMU for x86, beside it two newer
# ones whose intel-iommu has first-level tables, and a compiler for a small library that makes devices of the newest one send
# page requests. On Debian or a system derived from it:
#
#   sudo sh peers/vtd/setup.sh
#
# QEMU goes into the system where it is missing. The newer ones are unpacked with all their libraries below
# $XDG_CACHE_HOME/iommulator/vtd-peer (~/.cache where it is not set; with sudo, that of who called it) and installed nowhere:
# qemu-bookworm and qemu-trixie there are programs to give to `--qemu`; endpoints.so is made of endpoints.c. Nothing is
# fetched that is there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../setup-lib.sh"
cache_of vtd-peer

want qemu-system-x86_64 qemu-system-x86
want gcc "gcc libc6-dev"
install_missing

# unpack SUITE: the QEMU of its backports, with libraries of the suite.
unpack() {
  root=$cache/$1
  program=$cache/qemu-$1
  [ -x "$program" ] && "$program" --version >/dev/null 2>&1 && return
  apt=$cache/apt-$1
  private_apt "$apt" amd64 "$1 $1-backports" peers/vtd/setup.sh
  say "fetching qemu-system-x86 of $1-backports"
  apt-get -qq -y -t "$1-backports" --no-install-recommends --download-only install qemu-system-x86 >/dev/null ||
    stop "qemu-system-x86 of $1-backports could not be fetched"
  unset APT_CONFIG
  rm -rf "$root" "$root.new"
  for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$root.new" || stop "$package could not be unpacked"
  done
  mv "$root.new" "$root"
  rm -rf "$apt"
  # Its own loader and libraries: those of this system may be older or newer.
  cat >"$program.new" <<PROGRAM
#!/bin/sh
lib=$root/usr/lib/x86_64-linux-gnu
loader=\$lib/ld-linux-x86-64.so.2
[ -x "\$loader" ] || loader=$root/lib64/ld-linux-x86-64.so.2
exec "\$loader" --library-path "\$lib:$root/lib/x86_64-linux-gnu:\$lib/pulseaudio" \\
  $root/usr/bin/qemu-system-x86_64 -L $root/usr/share/qemu -L $root/usr/share/seabios "\$@"
PROGRAM
  chmod +x "$program.new"
  mv "$program.new" "$program"
  "$program" --version >/dev/null || stop "$program does not start"
}

unpack bookworm
unpack trixie
gcc -O1 -Wall -Wextra -shared -fPIC -o "$cache/endpoints.so.new" "$here/endpoints.c" -ldl -lpthread ||
  stop "peers/vtd/endpoints.c could not be compiled"
mv "$cache/endpoints.so.new" "$cache/endpoints.so"
[ -z "$owner" ] || chown -R "$owner:" "${cache%/*}"
for program in qemu-system-x86_64 "$cache/qemu-bookworm" "$cache/qemu-trixie"; do
  say "$program: $("$program" --version | head -1)"
done
