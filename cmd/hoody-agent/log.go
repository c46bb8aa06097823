package main

import (
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/hoodynetwork/hoody-agent/internal/config"
)

// logTarget is where the log goes: standard error, and who reads it there.
type logTarget struct {
	out      io.Writer
	terminal bool // a person
	journal  bool // journald
}

// newLogger builds a log: JSON lines for journald and whoever collects them, columns for people.
func newLogger(cfg config.Log, target logTarget) (*zap.Logger, error) {
	log, _, err := newLeveledLogger(cfg, target)
	return log, err
}

// newLeveledLogger is newLogger for those who will change the level.
func newLeveledLogger(cfg config.Log, target logTarget) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, level, fmt.Errorf("log.level: %w", err)
	}
	out := zapcore.Lock(zapcore.AddSync(target.out))
	return zap.New(zapcore.NewCore(logEncoder(cfg.Format, target), out, level), zap.ErrorOutput(out)), level, nil
}

func logEncoder(format string, target logTarget) zapcore.Encoder {
	layout := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message", StacktraceKey: "stack",
		EncodeTime:     zapcore.ISO8601TimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	}
	if format == "console" || (format == "auto" && target.terminal) {
		layout.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		layout.ConsoleSeparator = "  "
		return zapcore.NewConsoleEncoder(layout)
	}
	encoder := zapcore.NewJSONEncoder(layout)
	if target.journal {
		return priorityEncoder{encoder}
	}
	return encoder
}

// priorityEncoder puts a level as syslog knows it in front of each line, as in "<4>{…}". journald takes it off and
// files the line under that priority (sd-daemon(3)), so that `journalctl -p warning` finds warnings inside JSON.
type priorityEncoder struct{ zapcore.Encoder }

// Clone keeps the prefix on loggers with fields: zap clones the encoder for each.
func (e priorityEncoder) Clone() zapcore.Encoder { return priorityEncoder{e.Encoder.Clone()} }

// EncodeEntry writes the prefix and what the inner encoder makes of the entry.
func (e priorityEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("<%d>%s", priority(entry.Level), line.Bytes())
	line.Reset()
	line.AppendString(text)
	return line, nil
}

func priority(level zapcore.Level) int {
	switch {
	case level >= zapcore.DPanicLevel:
		return 2 // critical
	case level == zapcore.ErrorLevel:
		return 3
	case level == zapcore.WarnLevel:
		return 4
	case level == zapcore.InfoLevel:
		return 6
	default:
		return 7
	}
}
