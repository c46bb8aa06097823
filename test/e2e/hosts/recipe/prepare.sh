#!/bin/sh
# Runs once in each host: pool, Incus, images. The files it reads lie beside it.
#
# The hosts are prepared one by one, never copied from each other: the GUIDs of two real servers' pools,
# datasets and image snapshots differ, and so must these.
set -eu
cd "$(dirname "$0")"
zgenhostid -f
# There is no udev here, and zpool would wait for it.
export ZFS_VDEV_DEVID_OPT_OUT=YES
zpool create -f -o cachefile=none tank /dev/ubdb
incus admin init --preseed <preseed.yaml
incus image import busybox.tar.gz --alias busybox --quiet
incus image import debian.tar.zst --alias debian/13 --quiet
# The first container of an image unpacks it into the pool.
for image in busybox debian/13; do
	incus init "$image" first --quiet </dev/null
	incus delete first
done
zpool sync tank
