#!/bin/sh
# Builds a User Mode Linux kernel and OpenZFS for it from Debian's packages: kernel.sh FRAGMENT OUT
#
# Linux stays at 6.12: in 7.2 the vector network driver panics when a link is set up.
set -eu
fragment=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jobs=$(nproc)

# A root of the guest's release only to download from: this machine may run another release.
debootstrap --variant=minbase --components=main,contrib trixie "$work/root"
chroot "$work/root" apt-get update -q
chroot "$work/root" sh -c 'cd /tmp && apt-get download linux-source-6.12 zfs-dkms'
for deb in "$work"/root/tmp/*.deb; do dpkg-deb -x "$deb" "$work/src"; done

mkdir "$work/linux"
tar -C "$work/linux" --strip-components=1 -xf "$work"/src/usr/src/linux-source-6.12.tar.xz
cd "$work/linux"
make -s ARCH=um defconfig
scripts/kconfig/merge_config.sh -m .config "$fragment"
make -s ARCH=um olddefconfig
make -s ARCH=um -j "$jobs" linux modules

# No `make clean` here: it deletes zfs_gitrev.h, which the package has and git would make.
cp -a "$work"/src/usr/src/zfs-* "$work/zfs"
cd "$work/zfs"
export ARCH=um
./configure --with-config=kernel --with-linux="$work/linux" --with-linux-obj="$work/linux" \
	ARCH_UM=ARCH=um KERNEL_ARCH=um kernelarch=um
make -s -j "$jobs"

install -m 755 "$work/linux/linux" "$out/linux"
for module in spl zfs; do
	install -m 644 "$(find "$work/zfs/module" -name "$module.ko" | head -n 1)" "$out/$module.ko"
	strip --strip-debug "$out/$module.ko"
done
