package zfs

import (
	"errors"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestNames(t *testing.T) {
	p := &Pool{root: "tank/incus"}
	long := strings.Repeat("x", 260)
	for name, ok := range map[string]bool{
		"containers/x":                  true,
		"hoody/incoming/01J-0001":       true,
		"containers/default_a.b:c d":    true,
		"":                              false,
		"/x":                            false,
		"x/":                            false,
		"a//b":                          false,
		"../other":                      false,
		"a/./b":                         false,
		"-r":                            false,
		"a/-x":                          false,
		"a@b":                           false,
		"a#b":                           false,
		"a%recv":                        false,
		"a\tb":                          false,
		"a\nb":                          false,
		"a\x00b":                        false,
		"ü":                             false,
		"a,b":                           false,
		"a=b":                           false,
		long:                            false,
		strings.Repeat("x/", 130) + "x": false,
	} {
		if _, err := p.dataset(name); (err == nil) != ok || err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("dataset %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{
		"a@s":          true,
		"a/b@hoody-01": true,
		"a":            false,
		"a@":           false,
		"@s":           false,
		"a@s@t":        false,
		"a@s#b":        false,
		"a@%":          false,
		"a@s1%s2":      false,
		"a@s1,s2":      false,
		"a@-r":         false,
		"a@" + long:    false,
	} {
		if _, _, err := p.snapshot(name); (err == nil) != ok || err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("snapshot %q: %v", name, err)
		}
	}
	if full, dataset, err := p.version("a#b", "@#"); err != nil || full != "tank/incus/a#b" || dataset != "tank/incus/a" {
		t.Errorf("bookmark: %q %q %v", full, dataset, err)
	}
	if _, _, err := p.snapshot("a#b"); err == nil {
		t.Error("a bookmark passes for a snapshot")
	}
}

func TestCheckProperty(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"refquota", "10G", true},
		{"hoody:role", "generation", true},
		{"hoody:note", "a=b -x, ü", true},
		{"com.sun:auto-snapshot", "false", true},
		{"", "x", false},
		{"-o", "x", false},
		{"a=b", "x", false},
		{"Refquota", "1", false},
		{"written@s", "1", false},
		{"userquota@root", "1", false},
		{"origin", "tank/a@b", false},
		{"hoody:x", "a\nb", false},
		{"hoody:x", "a\tb", false},
		{"hoody:x", strings.Repeat("x", 9000), false},
		{strings.Repeat("x", 300), "1", false},
	} {
		if err := checkProperty(c.name, c.value); (err == nil) != c.ok {
			t.Errorf("%q=%q: %v", c.name, c.value, err)
		}
	}
}
