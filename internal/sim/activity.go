package sim

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Activity implements agent.Pool. It shows what was written at once.
func (p *Pool) Activity(ctx context.Context, parent string) (map[string]agent.Activity, error) {
	s, err := p.view(ctx)
	if err != nil {
		return nil, fmt.Errorf("activity below %s: %w", parent, err)
	}
	all := make(map[string]agent.Activity)
	for name, d := range s.Datasets {
		if path.Dir(name) != parent {
			continue
		}
		measured, err := p.activity(ctx, name, d)
		if errors.Is(err, errdefs.ErrNotFound) {
			continue // gone, or renamed, meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("activity of %s: %w", name, err)
		}
		all[name] = measured
	}
	return all, nil
}

func (p *Pool) activity(ctx context.Context, name string, d *dataset) (agent.Activity, error) {
	newest, ok := d.newest()
	if !ok {
		return agent.Activity{Written: d.Referenced, Referenced: d.Referenced}, nil
	}
	then, now, err := p.thenAndNow(ctx, name+"@"+newest.Name)
	if err != nil {
		return agent.Activity{}, err
	}
	return agent.Activity{
		Written: written(then, now), Referenced: now.referenced(), Snapshots: fmt.Sprintf("%d of %s", len(d.Snapshots), newest.GUID),
	}, nil
}
