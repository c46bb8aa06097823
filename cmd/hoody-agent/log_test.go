package main

import (
	"bytes"
	"errors"
	"regexp"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/config"
)

func TestLog(t *testing.T) {
	for _, test := range []struct {
		name   string
		cfg    config.Log
		target logTarget
		want   string // with TIME for times
	}{
		{"json", config.Log{Level: "info", Format: "json"}, logTarget{terminal: true},
			`{"level":"info","time":"TIME","logger":"x","message":"hello","took":"1.5s"}` + "\n" +
				`{"level":"error","time":"TIME","message":"bad","job":"j","error":"boom"}` + "\n"},
		{"journal", config.Log{Level: "debug", Format: "auto"}, logTarget{journal: true},
			`<7>{"level":"debug","time":"TIME","message":"detail"}` + "\n" +
				`<6>{"level":"info","time":"TIME","logger":"x","message":"hello","took":"1.5s"}` + "\n" +
				`<3>{"level":"error","time":"TIME","message":"bad","job":"j","error":"boom"}` + "\n"},
		{"pipe", config.Log{Level: "error", Format: "auto"}, logTarget{},
			`{"level":"error","time":"TIME","message":"bad","job":"j","error":"boom"}` + "\n"},
		{"terminal", config.Log{Level: "info", Format: "auto"}, logTarget{terminal: true},
			"TIME  info  x  hello  {\"took\": \"1.5s\"}\n" +
				"TIME  error  bad  {\"job\": \"j\", \"error\": \"boom\"}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			test.target.out = &out
			log, err := newLogger(test.cfg, test.target)
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("detail")
			log.Named("x").Info("hello", zap.Duration("took", 1500*time.Millisecond))
			log.With(zap.String("job", "j")).Error("bad", zap.Error(errors.New("boom")))
			times := regexp.MustCompile(`(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{3}([+-]\d{4}|Z)?`)
			if got := times.ReplaceAllString(out.String(), "TIME"); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
	if _, err := newLogger(config.Log{Level: "loud"}, logTarget{}); err == nil {
		t.Error("an unknown level was accepted")
	}
}
