#!/bin/sh
# Everything that `iommulator connect qemu-pseries` needs, from Debian packages: QEMU, and an assembler for the mailbox
# firmware. On Debian or a system derived from it:
#
#   sudo sh peers/pseries/setup.sh
#
# The firmware is kept below $XDG_CACHE_HOME/iommulator/pseries-peer (~/.cache where it is not set; with sudo, that of
# who called it). Nothing is fetched where QEMU and an assembler are there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# With sudo, $HOME is that of root; the files are for who called it.
owner=${SUDO_USER:-}
if [ -n "$owner" ]; then
  HOME=$(getent passwd "$owner" | cut -d: -f6)
  [ -d "$HOME/.cache" ] || install -d -o "$owner" -g "$(id -gn "$owner")" "$HOME/.cache"
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/iommulator/pseries-peer

say() { echo "setup: $*"; }
stop() { echo "setup: $*" >&2; exit 4; }

# Binutils for either byte order assemble for both.
tools() {
  for prefix in powerpc64-linux-gnu powerpc64le-linux-gnu; do
    command -v "$prefix-as" >/dev/null 2>&1 && command -v "$prefix-objcopy" >/dev/null 2>&1 && echo "$prefix" && return
  done
}

missing=
command -v qemu-system-ppc64 >/dev/null 2>&1 || missing="$missing qemu-system-ppc"
[ -n "$(tools)" ] || missing="$missing binutils-powerpc64-linux-gnu"
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here; install what provides:$missing"
  [ "$(id -u)" = 0 ] || stop "not root; first run: sudo apt-get install$missing"
  say "installing$missing"
  apt-get -qq update || say "apt-get update failed; going on with the lists that are there"
  # shellcheck disable=SC2086 # a list of packages
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null ||
    stop "apt-get could not install$missing"
fi
prefix=$(tools)
[ -n "$prefix" ] || stop "no assembler for 64-bit PowerPC was found"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$prefix-as" -mpower9 -a64 -mbig -o "$work/mailbox.o" "$here/mailbox.S" || stop "the firmware does not assemble"
"$prefix-objcopy" -O binary -j .text "$work/mailbox.o" "$work/mailbox.bin" || stop "the firmware cannot be taken out"
mkdir -p "$cache"
mv "$work/mailbox.bin" "$cache/mailbox.bin.new"
mv "$cache/mailbox.bin.new" "$cache/mailbox.bin"
[ -z "$owner" ] || chown -R "$owner:" "${cache%/*}"
say "ready: $cache"
