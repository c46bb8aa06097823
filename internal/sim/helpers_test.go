package sim_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/sim"
)

// newPool opens a pool in a directory of its own.
func newPool(t testing.TB, options sim.Options) *sim.Pool {
	t.Helper()
	return openPool(t, t.TempDir(), options)
}

// openPool opens the pool of a directory.
func openPool(t testing.TB, dir string, options sim.Options) *sim.Pool {
	t.Helper()
	pool, err := sim.NewPool(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

// put writes files into a dataset, which is made if it is missing.
func put(t testing.TB, pool *sim.Pool, dataset string, files map[string]string) {
	t.Helper()
	if err := pool.Create(t.Context(), dataset, nil); err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Fatal(err)
	}
	mount, err := pool.Mount(t.Context(), dataset)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Unmount(t.Context())
	for name, content := range files {
		err := mount.Root().MkdirAll(path.Dir(name), 0o755)
		if err == nil {
			err = mount.Root().WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// resumeToken is where the receive into a dataset stands.
func resumeToken(t testing.TB, pool *sim.Pool, dataset string) string {
	t.Helper()
	d, err := pool.Dataset(t.Context(), dataset)
	if err != nil || d.ResumeToken == "" {
		t.Fatalf("resume token %q of %s, %v", d.ResumeToken, dataset, err)
	}
	return d.ResumeToken
}

// get reads a file of a dataset; it is empty when there is none.
func get(t testing.TB, pool *sim.Pool, dataset, file string) string {
	t.Helper()
	mount, err := pool.Mount(t.Context(), dataset)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Unmount(t.Context())
	content, err := mount.Root().ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}

func snapshot(t testing.TB, pool *sim.Pool, dataset, name string) lineage.Snapshot {
	t.Helper()
	snap, err := pool.Snapshot(t.Context(), dataset, name)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// send reads a whole stream.
func send(t testing.TB, pool *sim.Pool, spec agent.SendSpec) []byte {
	t.Helper()
	stream, err := pool.Send(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	data, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func receive(t testing.TB, pool *sim.Pool, to string, stream []byte) error {
	t.Helper()
	return pool.Receive(t.Context(), agent.ReceiveSpec{To: to}, bytes.NewReader(stream))
}

// noise is data that no two seeds share.
func noise(seed, size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data)
	return string(data)
}
