package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unitSettings reads the settings of our systemd unit, without its comments.
func unitSettings(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../systemd/hoody-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = append(settings[key], value)
		}
	}
	return settings
}

// What makes systemd set up a mount namespace, from exec_needs_mount_namespace of its sources and systemd.exec(5). In
// one, the agent would keep datasets busy that the host has unmounted; hardening tools suggest all of these.
func TestUnitMakesNoMountNamespace(t *testing.T) {
	settings := unitSettings(t)
	for _, key := range []string{
		"PrivateMounts", "PrivateTmp", "PrivateDevices", "PrivateIPC", "IPCNamespacePath", "PrivateNetwork",
		"NetworkNamespacePath", "PrivateUsers", "PrivatePIDs", "PrivateBPF", "ProtectSystem", "ProtectHome",
		"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc",
		"ProcSubset", "ProtectHostname", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecPaths",
		"NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountImages", "ExtensionImages",
		"ExtensionDirectories", "MountFlags", "MountAPIVFS", "RootDirectory", "RootImage", "DynamicUser", "LogNamespace",
		"JoinsNamespaceOf",
	} {
		if values, set := settings[key]; set {
			t.Errorf("%s=%s makes a mount namespace", key, values)
		}
	}
}

func TestUnitSurvivesIncus(t *testing.T) {
	settings := unitSettings(t)
	for _, key := range []string{"Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom"} {
		if values, set := settings[key]; set {
			t.Errorf("%s=%s stops the agent with another unit", key, values)
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "Restart": "always", "KillMode": "mixed", "StartLimitIntervalSec": "0", "RestartPreventExitStatus": strconv.Itoa(exitTwice),
		"ExecStartPre": "/usr/bin/hoody-agent config check", "ExecStart": "/usr/bin/hoody-agent run",
	} {
		if got := settings[key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%q, want %s", key, got, want)
		}
	}
}
