#!/bin/sh
# What the peer of the cases vtd/... needs (Debian): GLib's headers for vtd-glib.c, and QEMU for vtd-qemu.
set -eu
apt-get install -y libglib2.0-dev pkg-config qemu-system-x86
