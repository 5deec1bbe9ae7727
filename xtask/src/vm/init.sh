#!/bin/busybox sh
# The first process of a guest of `cargo xtask vm-test`: sets up what a machine has, then does /job, a list of the commands below.
# In this shell, busybox's own commands come before those in PATH.
# All that the tests write goes to the port "results", with a line of this script's own after each program.
export PATH=/usr/sbin:/usr/bin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/shm /dev/pts
# Images of file systems lie here; a tmpfs takes half of the memory unless told.
mount -t tmpfs -o size=90% shm /dev/shm
mount -t tmpfs -o size=90% tmp /tmp
mount -t tmpfs run /run
chmod 1777 /tmp /dev/shm
# What is loaded when a device is opened, elsewhere by udev. The kernel asks for the rest itself.
for module in virtio_pci virtio_console loop fuse zfs; do /usr/sbin/modprobe -q $module; done

port() { # the device of the port with a name
  for known in /sys/class/virtio-ports/*; do
    [ "$(cat "$known/name")" = "$1" ] && echo "/dev/${known##*/}" && return
  done
  echo "no port $1" >&2; poweroff -f
}

here() { # from now on, the directory for temporary files lies on such a file system
  case $1 in
    tmpfs) return ;;
    xfs-quota) set -- xfs prjquota mkfs.xfs -q ;;
    ext4-quota) set -- ext4 prjquota mkfs.ext4 -q -O quota,project -E quotatype=prjquota ;;
    ext4-verity) set -- ext4 defaults mkfs.ext4 -q -O verity ;;
    *) set -- "$1" defaults "mkfs.$1" -q ;;
  esac
  kind=$1 options=$2; shift 2
  image=/dev/shm/here
  busybox truncate -s 2G $image && "$@" $image && /usr/bin/mount -t "$kind" -o "loop,$options" $image /var/tmp &&
    chmod 1777 /var/tmp && export TMPDIR=/var/tmp || { echo "no $kind for temporary files" >&2; poweroff -f; }
}

also() { # a program, at the path by which tests know it
  mkdir -p "${2%/*}" && ln -s "$1" "$2"
}

run() { # a program of tests, and how it ended
  "$@"
  echo "vm-test: exit $?"
}

results=$(port results)
cd /root
. /job > "$results" 2>&1 < /dev/null
echo "vm-test: done" > "$results"
poweroff -f
