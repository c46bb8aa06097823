#!/bin/sh
# Makes the root file system of a test host: guestroot.sh ROOT OVERLAY KERNEL AUTHORIZED_KEYS
#
# One root serves every host: address and name come from the kernel command line (overlay: e2e-net).
# Everything is a Debian package; debootstrap and apt use whatever mirror this machine is set up with.
set -eu
root=$1 overlay=$2 kernel=$3 keys=$4
release=$(grep -a -o 'vermagic=[^ ]*' "$kernel/zfs.ko" | head -n 1)
release=${release#*=}

debootstrap --variant=minbase --components=main,contrib \
	--include=systemd,systemd-sysv,udev,dbus,iproute2,iputils-ping,kmod,ca-certificates,openssh-server,procps,zstd \
	trixie "$root"

# No daemon may start in the chroot; above all not incusd, which would make its certificate here
# and give it to all hosts.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get install -y -q --no-install-recommends \
	zfsutils-linux incus-base incus-client uidmap lxcfs nftables dnsmasq-base busybox-static \
	etcd-server etcd-client attr socat curl
chroot "$root" apt-get clean
rm -rf "$root/usr/sbin/policy-rc.d" "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*

cp -r "$overlay/." "$root/"
chmod 755 "$root"/usr/local/sbin/*
install -d -m 700 "$root/root/.ssh"
install -m 600 "$keys" "$root/root/.ssh/authorized_keys"

# Each command that a test runs starts a shell; this one starts faster.
chroot "$root" usermod --shell /bin/sh root

# debootstrap copies this machine's; a host has no name server and is to fail at once instead of asking.
: >"$root/etc/resolv.conf"

# Identities belong to a host, not to the image: each host makes its own when it is prepared.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/hostid" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
ln -s /etc/machine-id "$root/var/lib/dbus/machine-id"

modules=$root/lib/modules/$release
install -d "$modules/extra"
install -m 644 "$kernel/spl.ko" "$kernel/zfs.ko" "$modules/extra/"
: >"$modules/modules.order"
: >"$modules/modules.builtin"
chroot "$root" depmod "$release"

unit() { chroot "$root" systemctl --quiet "$@" 2>/dev/null; }
unit enable e2e-net.service e2e-pool.service ssh.service
# The pool is imported by e2e-pool from the one device that can hold it; scanning takes half a minute.
# Absent units are no mistake: the list serves more than one release.
for u in zfs-import-cache.service zfs-import-scan.service zfs-mount.service zfs-share.service \
	zfs-volume-wait.service zfs-zed.service etcd.service nftables.service \
	systemd-networkd-wait-online.service systemd-networkd.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-pstore.service; do
	unit disable "$u" || true
done
# A host without hardware, console or users boots in half the time without these. The kernel makes the
# device nodes itself. (No fstab either: waiting for udev to announce the root device took ten seconds.)
unit mask systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
	systemd-udev-settle.service systemd-udev-trigger.service systemd-udev-load-credentials.service \
	kmod-static-nodes.service systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service \
	modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount \
	sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
	systemd-binfmt.service systemd-random-seed.service systemd-remount-fs.service tmp.mount \
	systemd-logind.service systemd-user-sessions.service systemd-update-utmp.service \
	getty.target getty@tty1.service sshd-unix-local.socket systemd-tmpfiles-clean.timer \
	systemd-hibernate-clear.service systemd-creds.socket systemd-hostnamed.socket systemd-sysext.socket \
	systemd-pcrextend.socket systemd-pcrlock.socket systemd-initctl.socket \
	systemd-ask-password-console.path systemd-ask-password-wall.path zfs.target
unit set-default multi-user.target
