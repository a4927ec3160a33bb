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
# With sudo, $HOME is that of root; the files are for who called it.
owner=${SUDO_USER:-}
if [ -n "$owner" ]; then
  HOME=$(getent passwd "$owner" | cut -d: -f6)
  [ -d "$HOME/.cache" ] || install -d -o "$owner" -g "$(id -gn "$owner")" "$HOME/.cache"
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/iommulator/kernel-peer
suite=${SUITE:-bookworm-backports}
flavour=powerpc64le-64k
series=6.12

say() { echo "setup: $*"; }
stop() { echo "setup: $*" >&2; exit 4; }

# --- programs of this system -------------------------------------------------------------------------------------
missing=
want() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
want qemu-system-ppc64 qemu-system-ppc
want powerpc64le-linux-gnu-gcc "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross"
want cpio cpio
want xz xz-utils
want depmod kmod
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here; install what provides:$missing"
  [ "$(id -u)" = 0 ] || stop "not root; first run: sudo apt-get install$missing"
  say "installing$missing"
  apt-get -qq update || say "apt-get update failed; going on with the lists that are there"
  # shellcheck disable=SC2086 # a list of packages
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null ||
    stop "apt-get could not install$missing"
fi
command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here, which fetches the kernel's package"

# --- the kernel, unpacked below the cache ------------------------------------------------------------------------
mkdir -p "$cache"
root=$cache/root
if [ -z "$(ls "$root"/boot/vmlinux-$series.*-$flavour 2>/dev/null)" ]; then
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$keyring" ] || stop "$keyring is missing; install debian-archive-keyring"
  # The mirror that this system takes its own packages from.
  mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | head -1)}
  [ -n "$mirror" ] || stop "apt knows no mirror; name one of Debian's: MIRROR=http://... sh peers/kernel/setup.sh"
  apt=$cache/apt
  mkdir -p "$apt/lists/partial" "$apt/parts" "$apt/cache/archives/partial"
  : >"$apt/status"
  echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/parts/kernel.list"
  # apt keeps its state here: what the system knows of its own packages is not touched.
  cat >"$apt/apt.conf" <<CONF
APT::Architecture "ppc64el";
APT::Architectures "ppc64el";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Dir::State::Lists "$apt/lists";
Dir::State::Status "$apt/status";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/parts";
Dir::Cache "$apt/cache";
CONF
  export APT_CONFIG="$apt/apt.conf"
  say "reading the package list of $suite for ppc64el"
  apt-get -qq update || stop "the package list of $suite could not be fetched from $mirror (MIRROR=http://... names another one)"
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
