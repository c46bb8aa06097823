package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Records are JSON: an admin with etcdctl can read them, and fields may be added without a migration (see carried).

func encode(what string, record any) (string, error) {
	data, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w: %w", what, errdefs.ErrInternal, err)
	}
	return string(data), nil
}

func decode[T any](what string, data []byte) (*T, error) {
	record := new(T)
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("decode %s: %w: %w", what, errdefs.ErrCorrupt, err)
	}
	return record, nil
}

// jobHead is how a job is stored. Its snapshot history can be some 350 KB and never changes, while phase and progress
// are written all the time; so the history has a key of its own, which is written once and found by its digest.
type jobHead struct {
	Job                  // without its History
	HistoryDigest string `json:"history_digest,omitempty"`
}

// encodeJob returns the value of the job's head and, unless the job has none, that of its history.
func encodeJob(job Job) (head, history string, err error) {
	known := ""
	if len(job.History) > 0 {
		if history, err = encode("history of job "+job.ID, job.History); err != nil {
			return "", "", err
		}
		known = digest(history)
	}
	head, err = encode("job "+job.ID, headOf(job, known))
	return head, history, err
}

func headOf(job Job, historyDigest string) jobHead {
	job.History = nil
	return jobHead{Job: job, HistoryDigest: historyDigest}
}

// decodeJob puts a job together again. history is asked for only when the job has one.
func decodeJob(id string, head []byte, history func() ([]byte, error)) (*Job, error) {
	stored, err := decode[jobHead]("job "+id, head)
	if err != nil {
		return nil, err
	}
	job := stored.Job
	if stored.HistoryDigest == "" {
		return &job, nil
	}
	list, err := history()
	if err != nil {
		return nil, err
	}
	if digest(string(list)) != stored.HistoryDigest {
		return nil, fmt.Errorf("job %s: its history is missing or another's: %w", id, errdefs.ErrCorrupt)
	}
	if err := json.Unmarshal(list, &job.History); err != nil {
		return nil, fmt.Errorf("decode history of job %s: %w: %w", id, errdefs.ErrCorrupt, err)
	}
	return &job, nil
}

// historyDigest reads only the digest out of a stored job; empty for a job without a history, or without a head.
func historyDigest(head string) string {
	var stored struct {
		HistoryDigest string `json:"history_digest"`
	}
	if json.Unmarshal([]byte(head), &stored) != nil {
		return ""
	}
	return stored.HistoryDigest
}

func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}
