package main

import (
	"os"

	"go.uber.org/zap"
)

// warnAboutMountNamespace says so when this process has mounts of its own. Such a process keeps datasets mounted that
// the host has long unmounted, and a mounted dataset can be neither renamed into place nor destroyed. Our unit takes
// care not to be given one; a drop-in or a container may bring it back.
func warnAboutMountNamespace(log *zap.Logger) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return // no /proc, or not Linux: nothing to tell
	}
	host, err := os.Readlink("/proc/1/ns/mnt")
	if err != nil {
		return // not root, as in development
	}
	if own != host {
		log.Warn("not in the host's mount namespace: datasets may stay busy; " +
			"remove sandboxing such as PrivateTmp or ProtectSystem from the unit")
	}
}
