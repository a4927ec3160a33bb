#!/bin/busybox sh
# All that runs in a guest whose disk is tested: loads the drivers, works on /dev/vda, says what came of it, and switches
# the machine off. The kernel's command line says what to do:
#
#   guest.run=test         (the default) a file system with checksummed files, and two zones behind it that the host knows
#   guest.run=bench        requests of 4 KiB and 1 MiB past the page cache, timed
#   guest.zone=SHA256      what the first zone must hold
#
# The disk, in MiB from its end: [-2, -1) holds what the host wrote, [-1, 0) gets the seed of the initramfs.
# Whatever is of use to who reads the console begins with GUEST.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

disk=/dev/vda
mebibyte=1048576

option() { # NAME DEFAULT
  value=$(tr ' ' '\n' </proc/cmdline | sed -n "s/^guest\\.$1=//p" | tail -n 1)
  echo "${value:-$2}"
}
uptime() { cut -d' ' -f1 /proc/uptime; }
say() { echo "GUEST $*"; }

finish() {
  dmesg | grep -iE 'dmar|iommu|tce|ddw|dma window|I/O error|ext[24]-fs error' | tail -n 40 | sed 's/^/GUEST dmesg /'
  say "end up $(uptime)"
  sync
  poweroff -f
  sleep 60
}
fail() {
  say "disk test failed: $*"
  finish
}

say "kernel $(uname -r) up $(uptime)"
for module in /modules/*; do insmod "$module" || say "insmod of $module failed"; done
wait=0
while [ ! -b $disk ]; do
  wait=$((wait + 1))
  [ $wait -lt 100 ] || fail "there is no $disk"
  usleep 50000
done
bytes=$(blockdev --getsize64 $disk)
size=$((bytes / mebibyte))
[ $size -ge 34 ] || fail "a disk of $bytes bytes is too small: 34 MiB are the least"
say "disk of $bytes bytes serial $(cat /sys/block/vda/serial 2>/dev/null) up $(uptime)"

# --- the zones that the host knows -----------------------------------------------------------------------------------
sum() { sha256sum | cut -d' ' -f1; }

zones() {
  want=$(option zone "")
  first=$((size - 2))
  # In requests of one page, of several, and through the page cache.
  small=$(dd if=$disk bs=4k skip=$((first * 256)) count=256 iflag=direct 2>/dev/null | sum)
  large=$(dd if=$disk bs=256k skip=$((first * 4)) count=4 iflag=direct 2>/dev/null | sum)
  cached=$(dd if=$disk bs=64k skip=$((first * 16)) count=16 2>/dev/null | sum)
  [ "$small" = "$large" ] && [ "$small" = "$cached" ] ||
    fail "the first zone differs: $small by pages, $large by 256 KiB, $cached through the page cache"
  [ -z "$want" ] || [ "$small" = "$want" ] || fail "the first zone is not what the host wrote: $small"
  say "zone read $small"
  # The second half in large requests first, then the first half by pages.
  dd if=/seed of=$disk bs=128k skip=4 seek=$((first * 8 + 12)) count=4 oflag=direct conv=notrunc 2>/dev/null ||
    fail "writing large requests"
  dd if=/seed of=$disk bs=4k seek=$((first * 256 + 256)) count=128 oflag=direct conv=notrunc 2>/dev/null ||
    fail "writing pages"
  say "zone written $(sum </seed)"
}

# --- the file system -------------------------------------------------------------------------------------------------
# What a file holds: the seed, from another place on for each number and each MiB.
content() { # NUMBER BYTES
  number=$1
  left=$2
  while [ "$left" -gt 0 ]; do
    from=$((number * 4099 % mebibyte))
    most=$left
    [ "$most" -le $((mebibyte - from)) ] || most=$((mebibyte - from))
    dd if=/seed bs=64k iflag=skip_bytes,count_bytes skip=$from count=$most 2>/dev/null
    left=$((left - most))
    number=$((number + 1))
  done
}

files=0
total=0
number=0
write() { # COUNT BYTES
  i=0
  while [ $i -lt "$1" ]; do
    number=$((number + 1))
    # The sum is of what goes to the disk, not of what is there.
    line=$(content $number "$2" | tee "/mnt/$number" | sum) || fail "writing file $number"
    echo "$line  /mnt/$number" >>/tmp/sums
    files=$((files + 1))
    total=$((total + $2))
    i=$((i + 1))
  done
}
fresh() { # the next read is one of the disk
  sync
  echo 3 >/proc/sys/vm/drop_caches
}
remount() {
  fresh
  umount /mnt || fail "umount"
  mount -t ext4 $disk /mnt || fail "mount"
}
verify() { # WHEN
  sha256sum -c /tmp/sums >/tmp/verdict 2>&1 ||
    fail "$1: $(grep -v ': OK$' /tmp/verdict | head -n 3 | tr '\n' ';')"
}
# Every other file goes, so that the next ones are scattered over what they leave.
thin() {
  awk 'NR % 2 == 0' /tmp/sums >/tmp/kept
  awk 'NR % 2 == 1 { print $2 }' /tmp/sums | xargs rm
  mv /tmp/kept /tmp/sums
  # Where the disk takes no discard, nothing is trimmed.
  sync
  trimmed=$(fstrim -v /mnt 2>/dev/null | grep -oE '[0-9]+ bytes' | head -n 1)
  say "trimmed ${trimmed:-nothing}"
}

filesystem() {
  mke2fs -F -b 4096 $disk $(((size - 2) * 1024)) >/dev/null 2>&1 || fail "mke2fs"
  mount -t ext4 $disk /mnt || fail "mount"
  for round in 1 2 3; do
    write 24 4096
    write 8 50001
    write 4 $mebibyte
    write 1 $((6 * mebibyte + 4096 * round))
    # Readers beside the writer.
    for reader in 0 1 2 3; do
      dd if=$disk of=/dev/null bs=64k skip=$((reader * size * 4)) count=64 iflag=direct 2>/dev/null &
    done
    write 2 $((2 * mebibyte))
    wait
    remount
    verify "round $round"
    say "round $round up $(uptime)"
    [ $round = 3 ] || thin
  done
  # Once more, large requests past the page cache.
  while read -r want file; do
    [ "$(dd if="$file" bs=1M iflag=direct 2>/dev/null | sum)" = "$want" ] || fail "read directly: $file"
  done <<END
$(tail -n 5 /tmp/sums)
END
  umount /mnt || fail "the last umount"
}

# --- the bench -------------------------------------------------------------------------------------------------------
# How many requests go through in four seconds; past the page cache, one at a time in each of so many processes.
measure() { # read|write BYTES PROCESSES
  case $1 in
    read) words="if=$disk of=/dev/null iflag=direct" ;;
    write) words="if=/dev/zero of=$disk oflag=direct conv=notrunc" ;;
  esac
  # Long enough that starting a process costs little.
  count=$((4 * mebibyte / $2))
  [ $count -gt 32 ] || count=32
  rm -f /tmp/done.*
  from=$(uptime)
  stop=$(awk "BEGIN { print $from + 4 }")
  process=0
  while [ $process -lt "$3" ]; do
    (
      rounds=0
      while [ "$(awk "BEGIN { print ($(uptime) < $stop) }")" = 1 ]; do
        dd $words bs="$2" count=$count 2>/dev/null || exit 1
        rounds=$((rounds + 1))
      done
      echo $((rounds * count)) >/tmp/done.$process
    ) &
    process=$((process + 1))
  done
  wait
  to=$(uptime)
  [ "$(ls /tmp/done.* 2>/dev/null | wc -l)" = "$3" ] || fail "bench: $1 $2"
  cat /tmp/done.* | awk -v s="$from" -v e="$to" -v b="$2" -v w="$1" -v p="$3" '
    { n += $1 }
    END { printf "GUEST bench %s bytes=%d processes=%d requests=%d seconds=%.2f rate=%.0f MBps=%.1f\n", w, b, p, n, e - s, n / (e - s), n * b / (e - s) / 1e6 }'
}

case $(option run test) in
  test)
    zones
    filesystem
    say "disk test passed $files files $total bytes sha256 $(sum </tmp/sums)"
    ;;
  bench)
    for way in read write; do
      measure $way 4096 1
      measure $way 4096 4
      measure $way $mebibyte 1
    done
    say "bench done"
    ;;
  *) fail "guest.run=$(option run test) is not known" ;;
esac
finish
