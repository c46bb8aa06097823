package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/digest"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// verifying is a line of what a verification answers that takes its time: how far it has come, and in the last line how it ended.
type verifying struct {
	Entries uint64              `json:"entries"`
	Bytes   uint64              `json:"bytes"`
	Done    *agent.Verification `json:"done,omitempty"`
	Failed  *failure            `json:"failed,omitempty"`
}

const contentLines = "application/jsonl"

// progressInterval is how often somebody who waits for a verification learns how far it has come.
const progressInterval = time.Second

// verify ends when who asked goes away.
func (s *server) verify(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as in answer
	container, err := s.find(r.PathValue("container"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	interval := progressInterval
	if !r.URL.Query().Has("progress") {
		interval = 1<<63 - 1
	}
	s.verifyContainer(w, r, container.ID, interval)
}

// verifyContainer answers as any other route does unless there is progress to tell of before the end.
func (s *server) verifyContainer(w http.ResponseWriter, r *http.Request, id string, interval time.Duration) {
	begun := false
	tell := func(line verifying) {
		if !begun {
			w.Header().Set("Content-Type", contentLines)
			begun = true
		}
		_ = json.NewEncoder(w).Encode(line) // who asked may be gone
		_ = http.NewResponseController(w).Flush()
	}
	last := time.Now()
	var at verifying
	v, err := s.Agent.Verify(r.Context(), id, func(entries, bytes uint64) {
		at.Entries, at.Bytes = entries, bytes
		if time.Since(last) >= interval {
			last = time.Now()
			tell(at)
		}
	})
	switch {
	case err != nil && !begun:
		s.fail(w, r, err)
	case err != nil:
		s.Log.Warn("verification failed", zap.String("container", id), zap.Error(err))
		at.Failed = &failure{Class: errdefs.ClassOf(err).Error(), Message: err.Error()}
		tell(at)
	case !begun:
		write(w, http.StatusOK, v)
	default:
		at.Done = &v
		tell(at)
	}
}

// Verify compares a container, given by id or name, with what it was copied from. It takes as long as reading it does, and ends
// with ctx. seen is told about every second how far it has come; nil for nobody.
func (c *Client) Verify(ctx context.Context, container string, seen digest.Seen) (v agent.Verification, err error) {
	response, err := c.ask(ctx, http.MethodPost, pathVerify+url.PathEscape(container)+"?progress", nil)
	if err != nil {
		return v, err
	}
	defer response.Body.Close()
	lines := json.NewDecoder(response.Body)
	if response.Header.Get("Content-Type") != contentLines {
		if err := lines.Decode(&v); err != nil {
			return v, unreadable(err)
		}
		return v, nil
	}
	for {
		var line verifying
		if err := lines.Decode(&line); err != nil {
			return v, unreadable(err)
		}
		switch {
		case line.Failed != nil:
			return v, line.Failed.err()
		case line.Done != nil:
			return *line.Done, nil
		case seen != nil:
			seen(line.Entries, line.Bytes)
		}
	}
}
