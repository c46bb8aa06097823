package main

import (
	"bytes"
	"os"

	"go.uber.org/zap"
)

// warnAboutMountNamespace says so when this process has mounts of its own. Such a process keeps datasets mounted that
// the host has long unmounted, and a mounted dataset can be neither renamed into place nor destroyed. Our unit takes
// care not to be given one; a drop-in or a container may bring it back.
func warnAboutMountNamespace(log *zap.Logger) {
	own, err := firstMount("/proc/self/mountinfo")
	if err != nil {
		return // no /proc, or not Linux: nothing to tell
	}
	host, err := firstMount("/proc/1/mountinfo")
	if err != nil {
		if os.Geteuid() == 0 { // else it is development
			log.Warn("cannot tell whether this is the host's mount namespace", zap.Error(err))
		}
		return
	}
	if own != host {
		log.Warn("not in the host's mount namespace: datasets may stay busy; " +
			"remove sandboxing such as PrivateTmp or ProtectSystem from the unit")
	}
}

// firstMount is the id of the first mount of a mount namespace, which no other one has (proc_pid_mountinfo(5)). Comparing the namespaces
// themselves takes the right to trace process 1, which the unit does not have.
func firstMount(mountinfo string) (string, error) {
	content, err := os.ReadFile(mountinfo)
	id, _, _ := bytes.Cut(content, []byte(" "))
	return string(id), err
}
