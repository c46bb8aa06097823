package zfs

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// streamFeatures are the pool features that a stream's header says it needs on the receiving side (DMU_BACKUP_FEATURE_… in
// sys/zfs_ioctl.h). What is not listed the kernel judges, later and with fewer words.
var streamFeatures = []struct {
	bit  uint64
	name string
}{
	{1 << 16, "embedded_data"},
	{1 << 17, "lz4_compress"},
	{1 << 19, "large_blocks"},
	{1 << 23, "large_dnode"},
	{1 << 25, "zstd_compress"},
}

// neededFeatures returns what a header, which was checked, needs.
func neededFeatures(header []byte) (names []string) {
	order, err := byteOrder(header)
	if err != nil {
		return nil
	}
	features := order.Uint64(header[headerVersionAt:]) >> 2
	for _, feature := range streamFeatures {
		if features&feature.bit != 0 {
			names = append(names, feature.name)
		}
	}
	return names
}

// Features returns the pool's features and their states: disabled, enabled or active (zpool-features(7)).
func (p *Pool) Features(ctx context.Context) (map[string]string, error) {
	name, _, _ := strings.Cut(p.root, "/")
	features := make(map[string]string)
	err := p.runner.lines(ctx, func(line string) error {
		property, value, ok := strings.Cut(line, "\t")
		if feature, found := strings.CutPrefix(property, "feature@"); ok && found {
			features[feature] = value
		}
		return nil
	}, "zpool", "get", "-Hp", "-o", "property,value", "all", name)
	if err != nil {
		return nil, fmt.Errorf("features of pool %s: %w", name, err)
	}
	return features, nil
}

// knownFeatures are pool features that were seen enabled: none is ever disabled again.
type knownFeatures struct {
	mu      sync.Mutex
	enabled map[string]bool
}

func (k *knownFeatures) lacks(needed []string) (missing []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range needed {
		if !k.enabled[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

func (k *knownFeatures) learn(states map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.enabled = make(map[string]bool, len(states))
	for name, state := range states {
		k.enabled[name] = state == "enabled" || state == "active"
	}
}

// checkFeatures refuses a stream that the pool cannot receive, by its header.
func (p *Pool) checkFeatures(ctx context.Context, header []byte) error {
	needed := neededFeatures(header)
	missing := p.features.lacks(needed)
	if len(missing) == 0 {
		return nil
	}
	states, err := p.Features(ctx)
	if err != nil {
		return err
	}
	if len(states) == 0 {
		return nil // a pool that tells nothing of its features
	}
	p.features.learn(states)
	if missing = p.features.lacks(needed); len(missing) > 0 {
		return errdefs.New(errdefs.ErrUnsupported, "POOL_FEATURE_MISSING",
			"The target server's pool lacks what the source's data needs: %s; see zpool-upgrade(8)", strings.Join(missing, ", "))
	}
	return nil
}
