#!/bin/sh
# Everything that real guests need whose disk is `iommulator connect vhost-user`, from Debian packages: QEMU for amd64 and
# ppc64el, a Linux 6.1 kernel for each, and an initramfs for each with BusyBox, a few modules and init.sh. On Debian or a
# system derived from it:
#
#   sudo sh peers/guests/setup.sh                  both
#   sudo sh peers/guests/setup.sh amd64            one
#
# Kept below $XDG_CACHE_HOME/iommulator/guests-peer (~/.cache where it is not set; with sudo, that of who called it);
# about 150 MB are fetched, once.
# Only missing programs are installed into the system; packages of the guests are unpacked in the cache and never installed.
#
#   SUITE=bookworm  MIRROR=http://...   take the guests' packages from another suite or mirror
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../setup-lib.sh"
cache_of guests-peer
suite=${SUITE:-bookworm}
series=6.1
# ext4 mounts the file systems that BusyBox makes; it takes its checksums by name, so no list of modules names the module.
modules="virtio_pci virtio_blk crc32c_generic ext4"

guests=${*:-amd64 ppc64el}
for guest in $guests; do
  case $guest in
    amd64 | ppc64el) ;;
    *) stop "there is no guest $guest; there are amd64 and ppc64el" ;;
  esac
done

# --- programs of this system -------------------------------------------------------------------------------------
for guest in $guests; do
  case $guest in
    amd64) want qemu-system-x86_64 qemu-system-x86 ;;
    ppc64el) want qemu-system-ppc64 qemu-system-ppc ;;
  esac
done
want cpio cpio
want xz xz-utils
want depmod kmod
install_missing
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- packages of a guest, unpacked below the cache -----------------------------------------------------------------
# What is kept of them: the kernel, the modules in the order in which they are loaded, and BusyBox.
fetch() { # GUEST FLAVOUR
  command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here, which fetches the packages of the guests"
  apt=$work/apt-$1
  root=$work/root-$1
  mkdir -p "$root"
  private_apt "$apt" "$1" "$suite" peers/guests/setup.sh
  kernel=$(apt-cache search --names-only "^linux-image-$series\\.[0-9.]*-[0-9]*-$2\$" | cut -d' ' -f1 | sort -V | tail -1)
  [ -n "$kernel" ] || stop "$suite has no Linux $series for $2; try another one (SUITE=...)"
  for package in "$kernel" busybox-static; do
    say "fetching $package for $1"
    (cd "$apt/cache/archives" && apt-get -qq download "$package") || stop "$package could not be fetched"
    dpkg-deb -x "$apt/cache/archives/$package"_*.deb "$root" || stop "$package could not be unpacked"
  done
  unset APT_CONFIG
  image=$(ls "$root"/boot/vmlinu[xz]-* | sort -V | tail -1)
  release=${image##*/vmlinu?-}
  lib=$root/lib/modules/$release
  [ -d "$lib" ] || lib=$root/usr/lib/modules/$release
  depmod -b "${lib%/lib/modules/*}" "$release"
  to=$cache/$1.new
  rm -rf "$to"
  mkdir -p "$to/modules"
  order=0
  for module in $modules; do
    line=$(grep -E "/$module\.ko(\.xz|\.zst)?:" "$lib/modules.dep" | head -1)
    # What is built into the kernel is in no list.
    [ -n "$line" ] || continue
    for file in $(printf '%s\n' "$line" | tr -d ':' | awk '{ for (i = NF; i > 0; i--) print $i }'); do
      plain=$(basename "$file" .xz)
      ls "$to/modules"/*-"$plain" >/dev/null 2>&1 && continue
      order=$((order + 1))
      into=$(printf '%s/modules/%02d-%s' "$to" "$order" "$plain")
      case $file in
        *.xz) xz -dc "$lib/$file" >"$into" ;;
        *.ko) cp "$lib/$file" "$into" ;;
        *) stop "$file is packed in a way that is not known here" ;;
      esac
    done
  done
  [ "$order" -gt 0 ] || stop "the kernel of $1 has no module of virtio"
  if [ -f "$root/bin/busybox" ]; then cp "$root/bin/busybox" "$to/busybox"; else cp "$root/usr/bin/busybox" "$to/busybox"; fi
  cp "$image" "$to/kernel"
  echo "$release" >"$to/release"
  rm -rf "$cache/$1" "$root"
  mv "$to" "$cache/$1"
}

# --- the initramfs -------------------------------------------------------------------------------------------------
pack() { # GUEST
  tree=$work/tree-$1
  mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/mnt" "$tree/tmp"
  cp -R "$cache/$1/modules" "$tree/modules"
  cp "$cache/$1/busybox" "$tree/bin/busybox"
  cp "$here/init.sh" "$tree/init"
  chmod 755 "$tree/init" "$tree/bin/busybox"
  # 1 MiB that no compression of a disk, nor a wrong sector, leaves alike: a Lehmer generator, in hexadecimal digits.
  awk 'BEGIN { s = 2026; for (i = 0; i < 131072; i++) { s = (s * 16807) % 2147483647; printf "%08x", s } }' >"$tree/seed"
  (cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -9n) >"$cache/$1/initrd.gz.new"
  mv "$cache/$1/initrd.gz.new" "$cache/$1/initrd.gz"
}

mkdir -p "$cache"
for guest in $guests; do
  case $guest in
    amd64) flavour=amd64 ;;
    ppc64el) flavour=powerpc64le ;;
  esac
  [ -f "$cache/$guest/kernel" ] || fetch "$guest" "$flavour"
  pack "$guest"
  say "$guest: Linux $(cat "$cache/$guest/release")"
done
[ -z "$owner" ] || chown -R "$owner:" "${cache%/*}"
say "ready: $cache"
