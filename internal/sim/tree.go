package sim

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// tree is the content of a dataset at one moment: every path below its root, the root itself as ".", sorted.
// Owners are not kept: changing them needs root. Sockets and devices are left out.
type tree struct {
	Entries []entry `json:"entries"`
}

// entry is one path of a tree.
type entry struct {
	Path   string      `json:"path"`
	Mode   fs.FileMode `json:"mode"`
	MTime  int64       `json:"mtime,omitempty"` // ns; 0 for links, whose time cannot be set portably
	Size   int64       `json:"size,omitempty"`
	Link   string      `json:"link,omitempty"`
	Blocks blocks      `json:"blocks,omitempty"`
}

// block is one stored block of a file. Blocks that a file lacks are zeros.
type block struct {
	At  int64 // index: offset / blockSize
	Sum sum
}

// blocks are a file's blocks by index.
type blocks []block

const packedBlock = 8 + len(sum{})

// MarshalText packs blocks, since large files have many.
func (b blocks) MarshalText() ([]byte, error) {
	packed := make([]byte, 0, len(b)*packedBlock)
	for _, block := range b {
		packed = binary.BigEndian.AppendUint64(packed, uint64(block.At))
		packed = append(packed, block.Sum[:]...)
	}
	return base64.RawStdEncoding.AppendEncode(nil, packed), nil
}

// UnmarshalText is the inverse of MarshalText.
func (b *blocks) UnmarshalText(text []byte) error {
	packed, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil || len(packed)%packedBlock != 0 {
		return fmt.Errorf("packed blocks: %w", errdefs.ErrCorrupt)
	}
	*b = make(blocks, 0, len(packed)/packedBlock)
	for ; len(packed) > 0; packed = packed[packedBlock:] {
		block := block{At: int64(binary.BigEndian.Uint64(packed))}
		copy(block.Sum[:], packed[8:])
		*b = append(*b, block)
	}
	return nil
}

// length returns how many bytes the block at an index has.
func (e *entry) length(at int64) int64 { return min(blockSize, e.Size-at*blockSize) }

// sameAs compares everything but the path.
func (e *entry) sameAs(other *entry) bool {
	return e.Mode == other.Mode && e.MTime == other.MTime && e.Size == other.Size && e.Link == other.Link &&
		slices.Equal(e.Blocks, other.Blocks)
}

// emptyTree is what a new dataset holds.
func emptyTree() *tree {
	return &tree{Entries: []entry{{Path: ".", Mode: fs.ModeDir | 0o755}}}
}

// encode is the canonical form that a tree's sum is made of.
func (t *tree) encode() ([]byte, error) { return json.Marshal(t) }

func decodeTree(data []byte) (*tree, error) {
	t := new(tree)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("tree: %w: %w", errdefs.ErrCorrupt, err)
	}
	return t, nil
}

// metadataBytes is what an entry costs beside its blocks.
const metadataBytes = 512

// referenced is the size of what is reachable from the tree.
func (t *tree) referenced() uint64 {
	var total int64
	for i := range t.Entries {
		total += metadataBytes
		for _, b := range t.Entries[i].Blocks {
			total += t.Entries[i].length(b.At)
		}
	}
	return uint64(total)
}

// byPath indexes a tree.
func (t *tree) byPath() map[string]*entry {
	index := make(map[string]*entry, len(t.Entries))
	for i := range t.Entries {
		index[t.Entries[i].Path] = &t.Entries[i]
	}
	return index
}

// sums returns the set of stored blocks.
func (t *tree) sums() map[sum]bool {
	set := make(map[sum]bool)
	for i := range t.Entries {
		for _, b := range t.Entries[i].Blocks {
			set[b.Sum] = true
		}
	}
	return set
}

// sort brings entries into canonical order.
func (t *tree) sort() {
	slices.SortFunc(t.Entries, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
}

// check refuses trees that cannot be laid out below one directory: a stream may come from anywhere.
func (t *tree) check() error {
	index := t.byPath()
	if len(index) != len(t.Entries) {
		return fmt.Errorf("tree lists a path twice: %w", errdefs.ErrCorrupt)
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if !filepath.IsLocal(e.Path) || path.Clean(e.Path) != e.Path {
			return fmt.Errorf("tree path %q: %w", e.Path, errdefs.ErrCorrupt)
		}
		parent, ok := index[path.Dir(e.Path)]
		if !ok || !parent.Mode.IsDir() {
			return fmt.Errorf("tree path %q is in no directory: %w", e.Path, errdefs.ErrCorrupt)
		}
		if !e.layable() {
			return fmt.Errorf("tree path %q is nothing that can be made: %w", e.Path, errdefs.ErrCorrupt)
		}
		previous := int64(-1)
		for _, b := range e.Blocks {
			if b.At <= previous || b.At > (e.Size-1)/blockSize || e.Size == 0 || b.Sum == (sum{}) {
				return fmt.Errorf("tree path %q has a block out of place: %w", e.Path, errdefs.ErrCorrupt)
			}
			previous = b.At
		}
	}
	return nil
}

// layable tells whether an entry is of a kind that scan lists and layOut makes.
func (e *entry) layable() bool {
	if strings.ContainsRune(e.Path+e.Link, 0) || e.Size < 0 {
		return false
	}
	switch e.Mode.Type() {
	case 0:
		return e.Link == ""
	case fs.ModeSymlink:
		return e.Link != "" && len(e.Blocks) == 0
	case fs.ModeDir, fs.ModeNamedPipe:
		return e.Link == "" && len(e.Blocks) == 0
	}
	return false
}
