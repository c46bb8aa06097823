package main

import (
	"strings"
	"testing"
)

func TestVerifyProgress(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		var stderr strings.Builder
		p := &program{stderr: &stderr, terminal: terminal}
		quick := p.verifyProgress()
		quick.clear()
		if stderr.Len() > 0 {
			t.Errorf("without progress: %q", stderr.String())
		}
		slow := p.verifyProgress()
		slow.show(12, 3<<20)
		slow.show(34, 5<<30)
		slow.clear()
		want := "\r\x1b[K12 files and directories, 3.0 MiB compared so far\r\x1b[K34 files and directories, 5.0 GiB compared so far\r\x1b[K"
		if !terminal {
			want = ""
		}
		if stderr.String() != want {
			t.Errorf("terminal %t: %q", terminal, stderr.String())
		}
	}
}
