#!/bin/sh
# Boots a real systemd as PID 1 of new namespaces (see tests/support/booted.py), on an overlay: nothing of it reaches
# the machine's own root. Arguments: an empty directory, the directory to share, the Python environment under test,
# and the Python that it is of, which every user of the overlay may run.
# Only units that touch nothing but these namespaces are there: no sysctl, no modules, no tmpfiles, no udev.
set -e
base=$1 share=$2 environment=$3 python=$4
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root" "$base/units" "$base/none"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
units=$(cd -P /lib/systemd/system && pwd)
for unit in sysinit.target basic.target multi-user.target sockets.target shutdown.target umount.target final.target \
    exit.target systemd-exit.service systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    cp "$units/$unit" "$base/units/"
done
cd "$base/root"
mount --bind "$base/units" ".$units"
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
mkdir etc/systemd/system/sysinit.target.wants
for unit in systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service; do
    ln -s "/usr/lib/systemd/system/$unit" etc/systemd/system/sysinit.target.wants/
done
for folder in usr/lib/systemd/system-generators usr/lib/systemd/system-environment-generators; do
    [ ! -d "$folder" ] || mount --bind "$base/none" "$folder"
done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --rbind /dev dev
mkdir -p srv/share opt/under-test old
mount --bind "$share" srv/share
mount --bind "$environment" opt/under-test
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\nReadKMsg=no\nStorage=volatile\n' >etc/systemd/journald.conf.d/test.conf
echo 0123456789abcdef0123456789abcdef >etc/machine-id
while [ "$python" != / ]; do
    chmod o+rx ".$python"
    python=$(dirname "$python")
done
pivot_root . old
umount -l /old
exec env -i container=other NOTIFY_SOCKET=/srv/share/booted PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=0 </dev/null
