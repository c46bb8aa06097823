package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const (
	// maxVariables is how many environment variables the contract gives a container.
	maxVariables = 256
	// maxEnvironment bounds their names and values together, in bytes: they are kept in the container's record, which needs up to six bytes
	// for one of theirs, a copy writes two of these at once, and etcd takes 1.5 MiB.
	maxEnvironment = 96 << 10
)

// checkEnvironment refuses an environment that is too large, unless it was even larger before; path is where the request has it.
func checkEnvironment(path string, before, env map[string]string) error {
	size := sizeOf(env)
	switch {
	case len(env) > maxVariables:
		return invalidField(path, fmt.Sprintf("must leave the container at most %d variables", maxVariables))
	case size > maxEnvironment && size > sizeOf(before):
		return invalidField(path, fmt.Sprintf("must leave the container's variables at most %d bytes together, names included; these hold %d", maxEnvironment, size))
	}
	return nil
}

func sizeOf(env map[string]string) (bytes int) {
	for name, value := range env {
		bytes += len(name) + len(value)
	}
	return bytes
}

// Environment returns a container, whose record holds its variables and how far they have reached the instance.
func (a *Agent) Environment(ctx context.Context, caller Caller, id string) (store.Container, error) {
	return a.readContainer(ctx, caller, id)
}

// ChangeEnvironment sets variables and removes others; those that it does not name stay. Removing one that is not set
// changes nothing. It waits a moment for the instance to have them.
func (a *Agent) ChangeEnvironment(ctx context.Context, caller Caller, id string, set map[string]string, remove ...string) (store.Container, error) {
	container, err := a.changeContainer(ctx, caller, id, func(_ *store.Tx, container *store.Container) error {
		env := maps.Clone(container.Env)
		if env == nil {
			env = make(map[string]string, len(set))
		}
		maps.Copy(env, set)
		for _, name := range remove {
			delete(env, name)
		}
		if err := checkEnvironment("", container.Env, env); err != nil {
			return err
		}
		changeEnvironment(container, env)
		return nil
	})
	var refused *errdefs.Error
	if errors.As(err, &refused) && refused.Code == "INSUFFICIENT_PERMISSIONS" {
		return store.Container{}, errdefs.New(errdefs.ErrPermissionDenied, "RESOURCE_ACCESS_DENIED", "Access denied")
	}
	if err != nil {
		return store.Container{}, err
	}
	return a.awaitSettings(ctx, container), nil
}
