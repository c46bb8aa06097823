package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// maxSettings is how many instances are changed at a time.
const maxSettings = 4

// followSettings carries changes of the records to the instances of this server, until ctx ends. A container that an
// operation works on has its turn when that is over; what fails is tried again later.
func (a *Agent) followSettings(ctx context.Context) error {
	changes := a.store.Mirror().Subscribe(store.KindContainer)
	defer changes.Close()
	retry := time.NewTicker(a.options.SettingsRetry)
	defer retry.Stop()
	var (
		work     errgroup.Group
		mu       sync.Mutex
		active   = make(map[string]bool)
		failed   = make(map[string]int64) // by container: the revision that the last attempt could not bring
		finished = make(chan struct{}, 1)
	)
	work.SetLimit(maxSettings)
	defer func() { _ = work.Wait() }()
	if err := a.withdrawVariables(ctx); err != nil && ctx.Err() == nil {
		a.log.Error("instances keep variables that no container may have", zap.Error(err))
	}
	for {
		for _, container := range a.store.Mirror().ContainersOnServer(a.serverID) {
			id := container.ID
			mu.Lock()
			skip := active[id] || !applicable(*container) || failed[id] == container.Settings.Revision
			if !skip {
				active[id] = true
			}
			mu.Unlock()
			if skip {
				continue
			}
			work.Go(func() error {
				revision, err := a.applySettings(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				delete(active, id)
				delete(failed, id)
				if err != nil && ctx.Err() == nil {
					failed[id] = revision
					a.log.Warn("settings did not reach the instance; tries again", zap.String("container", id), zap.Error(err))
				}
				select {
				case finished <- struct{}{}:
				default:
				}
				return nil
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-changes.Changes():
			if !open {
				return storeClosed()
			}
		case <-finished:
		case <-retry.C:
			mu.Lock()
			clear(failed)
			mu.Unlock()
		}
	}
}

// applicable tells whether an instance has to be changed and may be: nobody else works on it.
func applicable(container store.Container) bool {
	return container.Settings.Pending() && container.JobID == "" && settled(container.Status)
}

// applySettings brings a container's instance to what its record says and records that. It returns the revision that it
// was about, for a failure too.
func (a *Agent) applySettings(ctx context.Context, id string) (revision int64, err error) {
	// From here to the end no job works on the instance: one that is accepted from now on waits for this turn before its
	// first phase, and one that was accepted before shows in the record, which is read where it is true.
	release, err := a.settingsTurns.take(ctx, id)
	if err != nil {
		return 0, err
	}
	defer release()
	container, err := a.store.GetContainer(ctx, id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return 0, nil
	}
	if err != nil || container.ServerID != a.serverID || !applicable(container) {
		return 0, err
	}
	applied := a.configure(ctx, container)
	revision = container.Settings.Revision
	err = a.update(ctx, func(tx *store.Tx) error {
		current, err := tx.Container(id)
		if err != nil {
			return err
		}
		noteSettings(&current.Settings, revision, applied, a.now())
		return tx.PutContainer(current)
	})
	if errors.Is(err, errdefs.ErrNotFound) {
		err = nil
	}
	return revision, errors.Join(applied, err)
}

// noteSettings records how an attempt to bring a revision ended. What has changed since stays to be brought: those
// changes are on top of the revision, so leaving DroppedEnv and KeyChanged costs a repetition and nothing else.
func noteSettings(settings *store.Settings, revision int64, err error, now time.Time) {
	settings.AttemptedAt = &now
	if err != nil {
		settings.Error = jobError(err).Message
		return
	}
	settings.Error, settings.AppliedAt, settings.Applied = "", &now, max(settings.Applied, revision)
	if settings.Applied == settings.Revision {
		settings.DroppedEnv, settings.KeyChanged = nil, false
	}
}

// configure changes the instance. Every step of it may be repeated.
func (a *Agent) configure(ctx context.Context, container store.Container) error {
	name := InstanceName(container.ID)
	config := map[string]string{ConfigAutostart: strconv.FormatBool(container.Autostart)}
	for _, variable := range container.Settings.DroppedEnv {
		config[ConfigEnvironment+variable] = ""
	}
	given, left := givenVariables(container.Env)
	for variable, value := range given {
		config[ConfigEnvironment+variable] = value
	}
	for _, variable := range left { // the instance may have them from before they were refused
		config[ConfigEnvironment+variable] = ""
	}
	changed := a.runtime.Configure(ctx, name, config)
	if changed == nil {
		changed = a.runtime.Describe(ctx, name, container.Name)
	}
	if !container.Settings.KeyChanged {
		return changed
	}
	// Who may log in does not wait for the rest: a key that was withdrawn must not stay because a variable is refused.
	return errors.Join(changed, a.withTree(ctx, InstanceDataset(name), func(mount Mount) error {
		return identity.Authorize(mount.Root(), container.SSHPublicKey, container.InheritedKeys)
	}))
}

// withdrawVariables asks for the settings of those instances again whose records hold variables from before they were refused: with the
// settings they are taken away, which the next start would heed.
func (a *Agent) withdrawVariables(ctx context.Context) error {
	for _, container := range a.store.Mirror().ContainersOnServer(a.serverID) {
		if _, left := givenVariables(container.Env); len(left) == 0 {
			continue
		}
		if err := a.persist(ctx, func(tx *store.Tx) error {
			record, err := tx.Container(container.ID)
			if errors.Is(err, errdefs.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			record.Settings.Revision++
			return tx.PutContainer(record)
		}); err != nil {
			return fmt.Errorf("container %s: %w", container.ID, err)
		}
	}
	return nil
}

// variablesFor are the variables that a container's instance is given.
func (a *Agent) variablesFor(container store.Container) map[string]string {
	given, left := givenVariables(container.Env)
	if len(left) > 0 {
		a.log.Warn("variables that no container may have are not given to the instance", zap.String("container", container.ID), zap.Strings("names", left))
	}
	return given
}

// awaitSettings waits until the instance has what the record says, the attempt failed, or too much time has passed, and
// returns the record as it is then. A container that is in an operation's hands, or whose server is away, is not waited for.
func (a *Agent) awaitSettings(ctx context.Context, container store.Container) store.Container {
	alive, _ := a.store.Mirror().Alive(container.ServerID)
	if !alive || !applicable(container) {
		return container
	}
	changes := a.store.Mirror().Subscribe(store.KindContainer)
	defer changes.Close()
	patience := time.NewTimer(a.options.SettingsWait)
	defer patience.Stop()
	for {
		current, ok := a.store.Mirror().Container(container.ID)
		if !ok {
			return container
		}
		if current.Settings.Applied >= container.Settings.Revision || current.JobID != "" || failedSince(current.Settings, container.Settings) {
			return *current
		}
		select {
		case _, open := <-changes.Changes():
			if !open {
				return *current
			}
		case <-patience.C:
			return *current
		case <-ctx.Done():
			return *current
		}
	}
}

// failedSince tells whether an attempt failed that had not been made before.
func failedSince(now, before store.Settings) bool {
	return now.Error != "" && now.AttemptedAt != nil && (before.AttemptedAt == nil || now.AttemptedAt.After(*before.AttemptedAt))
}
