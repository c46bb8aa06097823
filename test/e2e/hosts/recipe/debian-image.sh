#!/bin/sh
# Makes the Debian container image for Incus: debian-image.sh OUT.tar.zst
#
# It boots systemd and sshd, and has what identifies a machine (SSH host keys, machine-id, host name):
# a copy must never boot with those of its source, and tests look for exactly that.
set -eu
out=$1
work=$(mktemp -d)
fs=$work/rootfs
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,openssh-server,iproute2 trixie "$fs"
rm -rf "$fs"/var/cache/apt/archives/*.deb "$fs"/var/lib/apt/lists/* "$fs"/usr/share/doc/* \
	"$fs"/usr/share/locale/* "$fs"/usr/share/man/*
ls "$fs"/etc/ssh/ssh_host_*_key >/dev/null
echo 0123456789abcdef0123456789abcdef >"$fs/etc/machine-id"
ln -sf /etc/machine-id "$fs/var/lib/dbus/machine-id"
echo debian >"$fs/etc/hostname"
: >"$fs/etc/resolv.conf" # debootstrap copies this machine's
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	e2scrub_reap.service systemd-networkd.service systemd-networkd-wait-online.service; do
	systemctl --root="$fs" --quiet disable "$u" 2>/dev/null || true
done
cat >"$work/metadata.yaml" <<'META'
architecture: x86_64
creation_date: 1760000000
properties:
  description: Debian 13 for tests
  os: debian
  release: trixie
META
tar -C "$work" --numeric-owner -c metadata.yaml rootfs | zstd -q -T0 -f -o "$out"
