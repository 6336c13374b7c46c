#!/bin/sh
# Process 1 of a User Mode Linux guest: mounts what a system expects, then waits for the room.
# It does not exec it: the waiting shell is what reaps orphans.
# Arguments: the interpreter, the folder of the project, the file with the room's settings.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
echo lab > /proc/sys/kernel/hostname
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
for folder in /dev/shm /run /tmp /var; do mount -t tmpfs tmpfs $folder; done
chmod 1777 /tmp /dev/shm
mkdir -p /run/netns /run/lab/directors /var/lib /var/log /var/run /var/tmp
mount -t hostfs -o /directors none /run/lab/directors
cd "$2" || exit 1
"$1" -S -m lab.room "$3"
echo "room: ended with $?"
# Returning from process 1 would be a kernel panic.
exec "$1" -S -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
