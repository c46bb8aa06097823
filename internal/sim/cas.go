package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// blockSize is ZFS's default record size: what a change of one byte costs to send.
const blockSize = 128 << 10

// sum identifies stored bytes by their content. The zero sum stands for a block of zeros, which is never stored.
type sum [sha256.Size]byte

var zeroBlock [blockSize]byte

// sumOf hashes one block.
func sumOf(block []byte) sum {
	if bytes.Equal(block, zeroBlock[:min(len(block), blockSize)]) {
		return sum{}
	}
	return sha256.Sum256(block)
}

func (s sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText makes a sum readable in JSON.
func (s sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *sum) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(s) {
		return fmt.Errorf("sum %q: %w", text, errdefs.ErrCorrupt)
	}
	if _, err := hex.Decode(s[:], text); err != nil {
		return fmt.Errorf("sum %q: %w: %w", text, errdefs.ErrCorrupt, err)
	}
	return nil
}

// cas keeps bytes by content in a directory, as long as somebody refers to them. References are counted in memory only: the
// owner takes them again when it opens the directory, and sweep removes what nobody took. So a file that a crash left
// half written is never looked at.
type cas struct {
	dir     string
	stored  atomic.Int64 // bytes
	stripes [64]stripe   // by the first bits of the sum, to let readers and writers pass each other
}

type stripe struct {
	mu     sync.Mutex
	refs   map[sum]int
	closed bool
}

func openCAS(dir string) (*cas, error) {
	c := &cas{dir: dir}
	for i := range c.stripes {
		c.stripes[i].refs = make(map[sum]int)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cas) stripe(s sum) *stripe { return &c.stripes[s[0]%64] }

func (c *cas) path(s sum) string {
	name := s.String()
	return filepath.Join(c.dir, name[:2], name[2:])
}

// put stores bytes and takes one reference to them.
func (c *cas) put(data []byte) (sum, error) {
	s := sumOf(data)
	if s == (sum{}) {
		return s, nil
	}
	st := c.stripe(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return s, errClosed
	}
	if st.refs[s] == 0 {
		path := c.path(s)
		err := os.WriteFile(path, data, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
		}
		if err != nil {
			return s, fmt.Errorf("store block: %w", err)
		}
		c.stored.Add(int64(len(data)))
	}
	st.refs[s]++
	return s, nil
}

// share takes one more reference to bytes that are stored already, and tells whether they are.
func (c *cas) share(s sum) bool {
	if s == (sum{}) {
		return true
	}
	st := c.stripe(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.refs[s] == 0 {
		return false
	}
	st.refs[s]++
	return true
}

// claim takes a reference to bytes that a former process stored.
func (c *cas) claim(s sum) {
	if s == (sum{}) {
		return
	}
	st := c.stripe(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.refs[s]++
}

// release gives one reference back; with the last one the bytes go. A file that cannot be removed goes at the next sweep.
func (c *cas) release(s sum) {
	if s == (sum{}) {
		return
	}
	st := c.stripe(s)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return // the directory may be somebody else's by now
	}
	if st.refs[s]--; st.refs[s] > 0 {
		return
	}
	delete(st.refs, s)
	if info, err := os.Stat(c.path(s)); err == nil && os.Remove(c.path(s)) == nil {
		c.stored.Add(-info.Size())
	}
}

// get returns the bytes of a sum that somebody holds.
func (c *cas) get(s sum) ([]byte, error) {
	data, err := os.ReadFile(c.path(s))
	if err != nil {
		return nil, fmt.Errorf("block %s: %w: %w", s, errdefs.ErrCorrupt, err)
	}
	if sumOf(data) != s {
		return nil, fmt.Errorf("block %s changed on disk: %w", s, errdefs.ErrCorrupt)
	}
	return data, nil
}

// sweep removes what nobody refers to and counts the rest.
func (c *cas) sweep() error {
	var stored int64
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var s sum
		name := filepath.Base(filepath.Dir(path)) + d.Name()
		if s.UnmarshalText([]byte(name)) != nil || c.stripe(s).refs[s] == 0 {
			return os.Remove(path)
		}
		info, err := d.Info()
		if err == nil {
			stored += info.Size()
		}
		return err
	})
	c.stored.Store(stored)
	return err
}

// close ends all changes to the directory; when it returns none is under way.
func (c *cas) close() {
	for i := range c.stripes {
		c.stripes[i].mu.Lock()
		c.stripes[i].closed = true
		c.stripes[i].mu.Unlock()
	}
}
