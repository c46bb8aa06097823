package agent

import "testing"

func TestVariableRules(t *testing.T) {
	for _, c := range []struct {
		name, value string
		refused     bool
	}{
		{"TZ", "Europe/Zurich", false},
		{"EMPTY", "", false},
		{"X", "a\nlxc.hook.pre-start = /bin/sh", true},
		{"X", "a\rb", true},
		{"X", "a\x00b", true},
		{"LD_PRELOAD", "/x.so", true},
		{"LD_LIBRARY_PATH", "/opt/lib", true},
		{"GCONV_PATH", "/x", true},
		{"INCUS_DIR", "/x", true},
		{"MY_LD_PRELOAD", "/x.so", false},
		{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/app/bin/", false},
		{"PATH", "/usr/bin:/var/lib/incus/storage-pools/tank/containers/c/rootfs/bin", true},
		{"PATH", "/usr/../proc/1/root/bin", true},
		{"PATH", "/proc/4711/root/bin", true},
		{"PATH", "bin:/usr/bin", true},
		{"PATH", "/usr/bin:", true},
		{"PATH", "/variable/bin", false},
		{"PATH", "//var/bin", true},
		{"PATH", "/usr//bin:/opt/app//", false},
		{"PATH", "/usr/./../proc/1/root/bin", true},
	} {
		if got := VariableNameRule(c.name) + VariableValueRule(c.name, c.value); (got != "") != c.refused {
			t.Errorf("%s=%q: %q, want it refused: %t", c.name, c.value, got, c.refused)
		}
		if err := CheckVariables(map[string]string{ConfigEnvironment + c.name: c.value}); (err != nil) != c.refused {
			t.Errorf("%s=%q: %v, want it refused: %t", c.name, c.value, err, c.refused)
		}
	}
}
