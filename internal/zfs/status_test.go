package zfs

import (
	"errors"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestParseStatus(t *testing.T) {
	for line, want := range map[string]Status{
		"ONLINE\t1000\t250\t12":  {Health: "ONLINE", Used: 0.25, Fragmentation: 12},
		"DEGRADED\t1000\t0\t12%": {Health: "DEGRADED", Fragmentation: 12},
		"ONLINE\t1000\t1000\t-":  {Health: "ONLINE", Used: 1, Fragmentation: -1},
		"FAULTED\t-\t-\t-":       {Health: "FAULTED", Fragmentation: -1},
	} {
		if got, err := parseStatus(line); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", line, got, err, want)
		}
	}
	for _, line := range []string{"", "ONLINE", "ONLINE\t0\t0\t0", "ONLINE\tx\t0\t0", "ONLINE\t1\tx\t0", "ONLINE\t1\t1\t1\t1"} {
		if got, err := parseStatus(line); !errors.Is(err, errdefs.ErrInternal) {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func TestStatusAsksForThePool(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"list": "arguments"})
	_, err := p.Status(t.Context())
	if err == nil || err.Error() != `status of pool p: zpool list printed "list|-Hp|-o|health,size,allocated,fragmentation|p": internal error` {
		t.Error(err)
	}
}

func TestFeatures(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"get": "print:size\t1000\nfeature@bookmarks\tactive\nfeature@draid\tdisabled\n"})
	features, err := p.Features(t.Context())
	if err != nil || len(features) != 2 || features["bookmarks"] != "active" || features["draid"] != "disabled" {
		t.Errorf("%v, %v", features, err)
	}
}

func TestVersions(t *testing.T) {
	fakePool(t, patient, map[string]string{"version": "print:zfs-2.3.9-1\nzfs-kmod-2.3.8-1\n"})
	if commands, module, err := Versions(t.Context()); err != nil || commands != "zfs-2.3.9-1" || module != "zfs-kmod-2.3.8-1" {
		t.Errorf("%q, %q, %v", commands, module, err)
	}
	t.Setenv("FAKE_version", "print:zfs-2.3.9-1\n")
	if _, _, err := Versions(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("without the module: %v", err)
	}
}
