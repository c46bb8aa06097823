package agent

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// maxFormerKeys bounds the keys that a container has had: each must be kept, or a snapshot of that time would bring it back.
const maxFormerKeys = 200

// UpdateContainer changes what the request names. The record is changed at once, whatever the container is doing; what the
// instance has to know of it follows as soon as no operation works on it. It waits a moment for that.
func (a *Agent) UpdateContainer(ctx context.Context, caller Caller, id string, request UpdateContainerRequest) (ContainerView, error) {
	container, err := a.changeContainer(ctx, caller, id, func(tx *store.Tx, container *store.Container) error {
		if err := renameContainer(tx, container, request.Name); err != nil {
			return err
		}
		if request.SetSSHPublicKey {
			if err := changeKey(tx, container, request.SSHPublicKey); err != nil {
				return err
			}
		}
		if request.Env != nil {
			if err := checkEnvironment("/environment_vars", container.Env, request.Env); err != nil {
				return err
			}
			changeEnvironment(container, request.Env)
		}
		if request.Color != nil {
			container.Color = normalizeColor(*request.Color)
		}
		if request.SetComment {
			container.Comment = request.Comment
		}
		if request.RealmIDs != nil {
			container.RealmIDs = *request.RealmIDs
		}
		if request.Autostart != nil && *request.Autostart != container.Autostart {
			container.Autostart = *request.Autostart
			container.Settings.Revision++
		}
		take(&container.AI, request.AI)
		take(&container.Ramdisk, request.Ramdisk)
		take(&container.RamdiskScope, request.RamdiskScope)
		return nil
	})
	if err != nil {
		return ContainerView{}, err
	}
	return a.view(a.awaitSettings(ctx, container)), nil
}

// take overwrites value with what a request says, if it says something.
func take[T any](value, wanted *T) {
	if wanted != nil {
		*value = *wanted
	}
}

// changeContainer writes back what change makes of a container that the caller may edit at that very moment.
func (a *Agent) changeContainer(ctx context.Context, caller Caller, id string, change func(*store.Tx, *store.Container) error) (store.Container, error) {
	now := a.now()
	var container store.Container
	err := a.accept(ctx, caller, func(tx *store.Tx) error {
		var err error
		if container, _, err = visibleContainer(tx, caller, id, store.PermissionEdit, containerNotFound()); err != nil {
			return err
		}
		before := container
		if err := change(tx, &container); err != nil {
			return err
		}
		if !reflect.DeepEqual(before, container) {
			container.EditedAt = now
			if err := a.touch(tx, &container, now); err != nil {
				return err
			}
		}
		return tx.PutContainer(container)
	})
	return container, err
}

// renameContainer moves the container's claim on its name.
func renameContainer(tx *store.Tx, container *store.Container, name *string) error {
	if name == nil || *name == container.Name {
		return nil
	}
	former := *container
	container.Name = *name
	if err := claimName(tx, *container); err != nil {
		return err
	}
	container.Settings.Revision++
	return releaseName(tx, former)
}

// changeKey gives the container another key, or none. The former one counts as a stranger's from now on: it is in the
// container's files, in its snapshots and in what was copied from them.
func changeKey(tx *store.Tx, container *store.Container, key string) error {
	if key == container.SSHPublicKey {
		return nil
	}
	former := *container
	container.SSHPublicKey = key
	if err := claimKey(tx, *container); err != nil {
		return err
	}
	same, err := sameKey(former.SSHPublicKey, key)
	if err != nil {
		return err
	}
	if !same && former.SSHPublicKey != "" {
		if err := releaseKey(tx, former); err != nil {
			return err
		}
		container.InheritedKeys = inheritedKeys(former)
	}
	if len(container.InheritedKeys) > maxFormerKeys {
		return errdefs.New(errdefs.ErrExhausted, "QUOTA_EXCEEDED", "The container has had %d keys, as many as it may have", maxFormerKeys)
	}
	container.Settings.KeyChanged = true
	container.Settings.Revision++
	return nil
}

// changeEnvironment replaces the container's variables, and remembers which of them the instance has to lose.
func changeEnvironment(container *store.Container, env map[string]string) {
	if maps.Equal(container.Env, env) {
		return
	}
	dropped := slices.Clone(container.Settings.DroppedEnv)
	for name := range container.Env {
		dropped = append(dropped, name)
	}
	dropped = slices.DeleteFunc(dropped, func(name string) bool { _, stays := env[name]; return stays })
	slices.Sort(dropped)
	container.Settings.DroppedEnv = slices.Compact(dropped)
	container.Env = env
	container.Settings.Revision++
}
