#!/bin/sh
# Makes the tiny container image for Incus: busybox-image.sh OUT.tar.gz (absolute)
#
# Its init ends on SIGPWR, which is what Incus sends to stop a container whose init is not systemd.
# When the first process of a container ends, the kernel ends the others: a stop takes milliseconds.
set -eu
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From its package, for the one of this machine may need libraries.
cd "$work"
apt-get download -q busybox-static || { apt-get update -q && apt-get download -q busybox-static; }
dpkg-deb -x busybox-static_*.deb package
busybox=$(find package -path '*/bin/busybox' -type f)
fs=$work/rootfs
mkdir -p "$fs/bin" "$fs/sbin" "$fs/etc" "$fs/dev" "$fs/proc" "$fs/sys" "$fs/run" "$fs/var/lib" \
	"$fs/usr/bin" "$fs/usr/sbin"
install -d -m 700 "$fs/root"
install -d -m 1777 "$fs/tmp"
install -m 755 "$busybox" "$fs/bin/busybox"
for applet in $("$busybox" --list); do
	[ "$applet" = busybox ] || [ -e "$fs/bin/$applet" ] || ln -s busybox "$fs/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$fs/etc/passwd"
echo 'root:x:0:' >"$fs/etc/group"
echo busybox >"$fs/etc/hostname"
cat >"$fs/sbin/init" <<'INIT'
#!/bin/sh
trap 'exit 0' PWR INT TERM
[ -x /etc/rc.local ] && /etc/rc.local &
while :; do
	sleep 1000000 &
	wait $!
done
INIT
chmod 755 "$fs/sbin/init"
cat >"$work/metadata.yaml" <<'META'
architecture: x86_64
creation_date: 1760000000
properties:
  description: Busybox for tests
  os: busybox
  release: "1"
META
tar -C "$work" --numeric-owner --owner=0 --group=0 -czf "$out" metadata.yaml rootfs
