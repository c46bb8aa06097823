package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/digest"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// comparing is an agent whose verifications see three files, and then end as a test says.
type comparing struct {
	Agent
	fails error
}

func (c comparing) Verify(_ context.Context, id string, seen digest.Seen) (agent.Verification, error) {
	for i := range uint64(3) {
		seen(i+1, 100*(i+1))
	}
	return agent.Verification{Container: id, Comparison: digest.Comparison{Entries: 3, Bytes: 300}}, c.fails
}

func TestVerifyTellsHowFarItHasCome(t *testing.T) {
	for name, test := range map[string]struct {
		interval time.Duration
		fails    error
		want     []uint64 // entries told of
	}{
		"with progress":         {0, nil, []uint64{1, 2, 3}},
		"over at once":          {time.Hour, nil, nil},
		"fails with progress":   {0, errdefs.New(errdefs.ErrUnavailable, "", "the source went away"), []uint64{1, 2, 3}},
		"fails before anything": {time.Hour, errdefs.New(errdefs.ErrUnavailable, "", "the source is away"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{Options: Options{Agent: comparing{fails: test.fails}, Log: zap.NewNop()}}
			socket := filepath.Join(t.TempDir(), "admin.sock")
			listener, err := Listen(socket, "")
			if err != nil {
				t.Fatal(err)
			}
			asked := ""
			agentServer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.String()
				s.verifyContainer(w, r, "web", test.interval)
			}))
			_ = agentServer.Listener.Close()
			agentServer.Listener = listener
			agentServer.Start()
			defer agentServer.Close()
			var told []uint64
			v, err := NewClient(socket).Verify(t.Context(), "web", func(entries, bytes uint64) {
				if bytes != 100*entries {
					t.Errorf("%d bytes of %d entries", bytes, entries)
				}
				told = append(told, entries)
			})
			if asked != pathVerify+"web?progress" {
				t.Errorf("asked for %s", asked)
			}
			if !slices.Equal(told, test.want) {
				t.Errorf("told of %v entries, want %v", told, test.want)
			}
			if test.fails != nil {
				if !errors.Is(err, errdefs.ErrUnavailable) || err.Error() != test.fails.Error() {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || v.Container != "web" || v.Entries != 3 || v.Bytes != 300 {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
}
