package zfs

import (
	"errors"
	"maps"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestActivity(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"list": "print:" +
		"p/containers\t24576\t24576\t-\n" +
		"p/containers/a\t0\t4096\t1767600000\n" +
		"p/containers/b\t18446744073709551615\t5\t-\n"})
	got, err := p.Activity(t.Context(), "containers")
	want := map[string]agent.Activity{
		"containers/a": {Referenced: 4096, Snapshots: "1767600000"},
		"containers/b": {Written: 1<<64 - 1, Referenced: 5, Snapshots: "-"},
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestActivityOfNothing(t *testing.T) {
	p := fakePool(t, patient, map[string]string{"list": missing})
	if got, err := p.Activity(t.Context(), "containers"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestActivityRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{"p/containers/a\t1\t2", "p/containers/a\t-\t2\t3", "p/containers/a\t1\tx\t3"} {
		p := fakePool(t, patient, map[string]string{"list": "print:" + line + "\n"})
		if got, err := p.Activity(t.Context(), "containers"); !errors.Is(err, errdefs.ErrInternal) {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
}
