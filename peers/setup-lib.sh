# shellcheck shell=sh
# What the set-up scripts of the peers share; they source it, with `here` set.

say() { echo "setup: $*"; }
stop() { echo "setup: $*" >&2; exit 4; }

# cache_of NAME: sets `owner` and `cache`. With sudo, $HOME is that of root; the files are for who called it.
cache_of() {
  owner=${SUDO_USER:-}
  if [ -n "$owner" ]; then
    HOME=$(getent passwd "$owner" | cut -d: -f6)
    [ -d "$HOME/.cache" ] || install -d -o "$owner" -g "$(id -gn "$owner")" "$HOME/.cache"
  fi
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/iommulator/$1
}

# want PROGRAM PACKAGES: notes the packages where the program is missing.
missing=
want() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }

# Installs what is missing into the system.
install_missing() {
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here; install what provides:$missing"
  [ "$(id -u)" = 0 ] || stop "not root; first run: sudo apt-get install$missing"
  say "installing$missing"
  apt-get -qq update || say "apt-get update failed; going on with the lists that are there"
  # shellcheck disable=SC2086 # a list of packages
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null ||
    stop "apt-get could not install$missing"
}

# private_apt FOLDER ARCHITECTURE SUITES SCRIPT: from here on apt is one of another architecture, or of other suites, which keeps
# its state in a folder: what the system knows of its own packages is not touched. `unset APT_CONFIG` ends it. Its list of
# packages is read.
private_apt() {
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$keyring" ] || stop "$keyring is missing; install debian-archive-keyring"
  # The mirror that this system takes its own packages from.
  mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | head -1)}
  [ -n "$mirror" ] || stop "apt knows no mirror; name one of Debian's: MIRROR=http://... sh $4"
  mkdir -p "$1/lists/partial" "$1/parts" "$1/cache/archives/partial"
  : >"$1/status"
  for suite_of_apt in $3; do
    echo "deb [signed-by=$keyring] $mirror $suite_of_apt main"
  done >"$1/parts/peer.list"
  cat >"$1/apt.conf" <<CONF
APT::Architecture "$2";
APT::Architectures "$2";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Dir::State::Lists "$1/lists";
Dir::State::Status "$1/status";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$1/parts";
Dir::Cache "$1/cache";
CONF
  export APT_CONFIG="$1/apt.conf"
  say "reading the package list of $3 for $2"
  apt-get -qq update || stop "the package list of $3 could not be fetched from $mirror (MIRROR=http://... names another one)"
}
