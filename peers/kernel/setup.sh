#!/bin/sh
# Everything that `iommulator connect kernel` needs, from Debian packages: QEMU, a Linux 6.12 kernel with pages of
# 64 KiB for ppc64el, and an initramfs with its modules and the agent. On Debian or a system derived from it:
#
#   sudo sh peers/kernel/setup.sh
#
# Kept below $XDG_CACHE_HOME/iommulator/kernel-peer (~/.cache where it is not set; with sudo, that of who called it);
# about 90 MB are fetched, once.
# Only missing programs are installed into the system; the kernel package is unpacked in the cache and never installed.
#
#   SUITE=trixie  MIRROR=http://...   take the kernel from another suite or mirror
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../setup-lib.sh"
cache_of kernel-peer
suite=${SUITE:-bookworm-backports}
flavour=powerpc64le-64k
series=6.12

# --- programs of this system -------------------------------------------------------------------------------------
want qemu-system-ppc64 qemu-system-ppc
want powerpc64le-linux-gnu-gcc "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross"
want cpio cpio
want xz xz-utils
want depmod kmod
install_missing
command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here, which fetches the kernel's package"

# --- the kernel, unpacked below the cache ------------------------------------------------------------------------
mkdir -p "$cache"
root=$cache/root
if [ -z "$(ls "$root"/boot/vmlinux-$series.*-$flavour 2>/dev/null)" ]; then
  apt=$cache/apt
  private_apt "$apt" ppc64el "$suite" peers/kernel/setup.sh
  package=$(apt-cache search --names-only "^linux-image-$series\\..*-$flavour\$" | cut -d' ' -f1 | sort -V | tail -1)
  [ -n "$package" ] || stop "$suite has no Linux $series for $flavour; try another one: SUITE=trixie"
  say "fetching $package"
  (cd "$apt/cache/archives" && apt-get -qq download "$package") || stop "$package could not be fetched"
  unset APT_CONFIG
  rm -rf "$root.new"
  dpkg-deb -x "$apt/cache/archives/$package"_*.deb "$root.new" || stop "$package could not be unpacked"
  rm -rf "$root"
  mv "$root.new" "$root"
  rm -f "$apt/cache/archives/$package"_*.deb
fi
vmlinux=$(ls "$root"/boot/vmlinux-$series.*-$flavour | sort -V | tail -1)
release=${vmlinux##*/vmlinux-}
say "kernel $release"

# --- the agent and its modules -----------------------------------------------------------------------------------
PATH=$PATH:/usr/sbin:/sbin
lib=$root/lib/modules/$release
[ -d "$lib" ] || lib=$root/usr/lib/modules/$release
[ -f "$lib/modules.dep" ] || depmod -b "${lib%/lib/modules/*}" "$release"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/modules" "$work/tree/dev" "$work/tree/proc" "$work/tree/sys"
say "compiling the agent"
powerpc64le-linux-gnu-gcc -std=gnu11 -O1 -Wall -Werror -static -o "$work/tree/init" "$here/agent.c" "$here/kvm.c" \
  "$here/vhost.c" ||
  stop "the agent does not compile"

# Modules in the order in which they are loaded, those that others need first; the agent loads them by name.
order=0
add() {
  line=$(grep -E "/$1\.ko(\.xz|\.zst)?:" "$lib/modules.dep" | head -1)
  [ -n "$line" ] || return 0
  for module in $(printf '%s\n' "$line" | tr -d ':' | awk '{ for (i = NF; i > 0; i--) print $i }'); do
    plain=$(basename "$module")
    plain=${plain%.xz}
    ls "$work/tree/modules"/*-"$plain" >/dev/null 2>&1 && continue
    order=$((order + 1))
    to=$(printf '%s/tree/modules/%02d-%s' "$work" "$order" "$plain")
    case $module in
      *.xz) xz -dc "$lib/$module" >"$to" ;;
      *.ko) cp "$lib/$module" "$to" ;;
      *) stop "$module is packed in a way that is not known here" ;;
    esac
  done
}
for module in vfio-pci vfio_iommu_spapr_tce vfio_spapr_eeh kvm-hv vhost_net; do add "$module"; done
[ "$order" -gt 0 ] || stop "the kernel has no module of VFIO"

(cd "$work/tree" && find . | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -9n) >"$cache/initrd.gz.new"
cp "$vmlinux" "$cache/vmlinux.new"
mv "$cache/initrd.gz.new" "$cache/initrd.gz"
mv "$cache/vmlinux.new" "$cache/vmlinux"
[ -z "$owner" ] || chown -R "$owner:" "${cache%/*}"
say "ready: $cache"
