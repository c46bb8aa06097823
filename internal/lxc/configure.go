package lxc

import (
	"context"
	"strconv"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// configureAttempts bounds the races lost to others who change the same instance.
const configureAttempts = 8

// Configure sets configuration keys of Incus, such as "limits.memory" or "environment.TZ"; an empty value removes a key.
// The rest of the instance, its description included, stays as it is, whoever changes it meanwhile: what was read is
// written back on the condition that nothing changed, and read again if it did.
//
// Limits apply to a running instance at once; a change of the environment applies to processes that Incus starts from
// then on, so to init after the next start. A variable that would reach further than the instance is ErrInvalid (agent.CheckVariables).
func (r *Runtime) Configure(ctx context.Context, instance string, config map[string]string) error {
	return r.run(ctx, "configure", instance, func(ctx context.Context) error {
		if err := agent.CheckVariables(config); err != nil {
			return err
		}
		return r.configure(ctx, instance, func(put *api.InstancePut) bool { return merge(put.Config, config) })
	})
}

// Describe changes the description that `incus list` shows; the rest stays as it is.
func (r *Runtime) Describe(ctx context.Context, instance, description string) error {
	return r.run(ctx, "describe", instance, func(ctx context.Context) error {
		return r.configure(ctx, instance, func(put *api.InstancePut) bool {
			changed := put.Description != description
			put.Description = description
			return changed
		})
	})
}

// Protect turns protection against deletion on or off. It holds against everybody, the agent included.
func (r *Runtime) Protect(ctx context.Context, instance string, on bool) error {
	return r.run(ctx, "protect", instance, func(ctx context.Context) error {
		return r.configure(ctx, instance, func(put *api.InstancePut) bool {
			return merge(put.Config, map[string]string{keyProtected: strconv.FormatBool(on)})
		})
	})
}

// configure lets change edit what is there and tell whether that changed anything.
func (r *Runtime) configure(ctx context.Context, instance string, change func(*api.InstancePut) bool) error {
	var err error
	for attempt := range configureAttempts {
		err = r.whenIdle(ctx, instance, func(ctx context.Context) error { return r.configureOnce(ctx, instance, change) })
		switch {
		case withoutBackupFile(err):
			continue // stored, but not in the backup file, which Incus writes again at the next start: see that it is
		case !is(err, errdefs.ErrStale):
			return err
		}
		// A start or a stop notes several keys in a row.
		if waitErr := r.busyPause.wait(ctx, attempt); waitErr != nil {
			return waitErr
		}
	}
	return err
}

func (r *Runtime) configureOnce(ctx context.Context, instance string, change func(*api.InstancePut) bool) error {
	var found *api.Instance
	var etag string
	err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		found, etag, err = server.GetInstance(instance)
		return err
	})
	if err != nil {
		return err
	}
	put := found.Writable()
	if !change(&put) {
		return nil
	}
	// Not PATCH: it empties the description when that is not sent along.
	return r.operate(ctx, func(server incus.InstanceServer) (incus.Operation, error) {
		return server.UpdateInstance(instance, put, etag)
	})
}

// merge applies changes to config and tells whether that changed anything.
func merge(config api.ConfigMap, changes map[string]string) bool {
	changed := false
	for key, value := range changes {
		old, present := config[key]
		switch {
		case value == "" && present:
			delete(config, key)
			changed = true
		case value != "" && value != old:
			config[key] = value
			changed = true
		}
	}
	return changed
}
