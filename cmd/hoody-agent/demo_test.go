package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/hoodynetwork/hoody-agent/internal/demo"
)

// quietLog shows what went wrong in the agents.
func quietLog(t *testing.T) *zap.Logger { return zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)) }

func TestDemoHolds(t *testing.T) {
	var told bytes.Buffer
	err := tellDemo(t.Context(), quietLog(t), demo.Options{Data: demo.MinData, Out: &told}, nil)
	if err != nil {
		t.Errorf("%v\n%s", err, &told)
	}
	if !strings.Contains(told.String(), "\nAll of it held: ") || strings.ContainsAny(told.String(), "\x1b✓") {
		t.Errorf("told, not on a terminal:\n%s", &told)
	}
}

// spoiler is a host with a fault that an agent could have.
type spoiler struct {
	demo.Host
	spoil func(ctx context.Context, host demo.Host, containerID string) error // before files are used
	boots int                                                                 // that nobody should see
}

func (s *spoiler) Use(ctx context.Context, containerID string, use func(root *os.Root) error) error {
	if s.spoil != nil {
		if err := s.spoil(ctx, s.Host, containerID); err != nil {
			return err
		}
	}
	return s.Host.Use(ctx, containerID, use)
}

func (s *spoiler) Boots(containerID string) int {
	s.boots++
	return s.Host.Boots(containerID) + s.boots
}

// flip changes one bit of a big file.
func flip(root *os.Root) error {
	file, err := root.OpenFile("srv/data.bin", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], 1<<20); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = file.WriteAt(b[:], 1<<20)
	return errors.Join(err, file.Close())
}

// afterSync flips a bit in a copy as soon as it holds what the sync of the story brings.
func afterSync(ctx context.Context, host demo.Host, containerID string) error {
	return host.Use(ctx, containerID, func(root *os.Root) error {
		content, err := root.ReadFile("srv/app.conf")
		if err != nil || strings.TrimSpace(string(content)) != "version 4" {
			return nil
		}
		return flip(root)
	})
}

func TestDemoNotices(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(i int, host demo.Host) demo.Host
		told  string
	}{
		{"a bit that a sync flips", func(i int, host demo.Host) demo.Host {
			if i == 0 {
				return host // the source's server
			}
			return &spoiler{Host: host, spoil: afterSync}
		}, "NOT SO: source and copy hold the same files again: sha256"},
		{"a restarted source", func(i int, host demo.Host) demo.Host {
			if i != 0 {
				return host
			}
			return &spoiler{Host: host}
		}, "NOT SO: the source ran on all the time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hosts := 0
			var told bytes.Buffer
			err := tellDemo(t.Context(), quietLog(t), demo.Options{Data: demo.MinData, Out: &told}, func(host demo.Host) demo.Host {
				hosts++
				return test.spoil(hosts-1, host)
			})
			if !errors.Is(err, demo.ErrBroken) {
				t.Errorf("the demo ends with %v", err)
			}
			if !strings.Contains(told.String(), test.told) || strings.Contains(told.String(), "All of it held") {
				t.Errorf("told:\n%s", &told)
			}
		})
	}
}

func TestDemoIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var told bytes.Buffer
	err := tellDemo(ctx, quietLog(t), demo.Options{Data: 64 << 20, Out: &told}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(told.String(), "NOT SO") {
		t.Errorf("the demo ends with %v; told:\n%s", err, &told)
	}
}

func TestDemoFlags(t *testing.T) {
	for _, args := range [][]string{{"--data", "much"}, {"--data", "1KiB"}, {"--log-level", "loud"}, {"now"}} {
		if code, _, stderr := invoke(t, nil, append([]string{"demo"}, args...)...); code != exitUsage {
			t.Errorf("demo %v: code %d, %s", args, code, stderr)
		}
	}
}
