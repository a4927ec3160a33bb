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
. "$here/../setup-lib.sh"
cache_of pseries-peer

# Binutils for either byte order assemble for both.
tools() {
  for prefix in powerpc64-linux-gnu powerpc64le-linux-gnu; do
    command -v "$prefix-as" >/dev/null 2>&1 && command -v "$prefix-objcopy" >/dev/null 2>&1 && echo "$prefix" && return
  done
}

want qemu-system-ppc64 qemu-system-ppc
[ -n "$(tools)" ] || missing="$missing binutils-powerpc64-linux-gnu"
install_missing
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
