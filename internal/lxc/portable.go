package lxc

import (
	"maps"
	"strings"
)

// portableKeys are the configuration keys that mean the same on every host and give a container no rights that its
// host did not choose. All exist in Incus 6.0.4.
var portableKeys = map[string]bool{
	"limits.cpu":                  true, // a count; a pinned set is dropped, see PortableConfig
	"limits.cpu.allowance":        true,
	"limits.cpu.priority":         true,
	"limits.disk.priority":        true,
	"limits.memory":               true,
	"limits.memory.enforce":       true,
	"limits.memory.swap":          true,
	"limits.memory.swap.priority": true,
	"limits.processes":            true,

	"boot.host_shutdown_timeout": true,
	"boot.stop.priority":         true,

	"security.guestapi":              true, // whether /dev/incus is there
	"security.idmap.isolated":        true, // which ids are taken is each host's affair
	"security.idmap.size":            true,
	"security.nesting":               true, // containers in the container; stays within its user namespace
	"security.syscalls.deny":         true, // these only ever take away
	"security.syscalls.deny_compat":  true,
	"security.syscalls.deny_default": true,
}

// portablePrefixes are whole families of such keys.
var portablePrefixes = []string{
	"limits.kernel.",    // rlimits, such as limits.kernel.nofile
	"limits.hugepages.", // by page size
}

// PortableConfig returns the keys of an instance's configuration that travel with the container to another host, or into
// a copy. It is an allow list; what is not on it stays behind:
//
//   - raw.*, security.privileged, security.syscalls.allow and .intercept.*: they hand out rights of the host;
//   - volatile.*: the identity of one instance (the id map of its files travels by itself, see agent.InstanceSpec);
//   - limits.cpu as a set such as "0-3", limits.cpu.nodes, security.idmap.base: they name parts of one host;
//   - snapshots.*: the agent schedules snapshots itself;
//   - boot.autostart, security.protection.*, environment.*, user.*, cloud-init.*: the agent's own, passed separately or
//     not at all. cloud-init data may hold secrets and would run again in the copy.
//
// The argument is not changed; the result is never nil.
func PortableConfig(config map[string]string) map[string]string {
	portable := maps.Clone(config)
	maps.DeleteFunc(portable, func(key, value string) bool {
		return value == "" || !isPortable(key) || key == "limits.cpu" && strings.ContainsAny(value, ",-")
	})
	if portable == nil {
		return map[string]string{}
	}
	return portable
}

func isPortable(key string) bool {
	if portableKeys[key] {
		return true
	}
	for _, prefix := range portablePrefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}
