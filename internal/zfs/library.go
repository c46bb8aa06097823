package zfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

// library calls go-zfs v3 and gives its calls what our own commands have: a context, observer, log and classified errors.
//
// It is used where it does the job: create, set, destroy and get of one dataset. Its limits, read in v3.0.1, are the
// reason for the rest of this package:
//   - it takes no context; a call that outlives its context is left to end by itself (call);
//   - it has no flags for send and receive, no bookmarks, promote, inherit, resume tokens or dry runs;
//   - it never reads guid or createtxg, and GetProperty prints numbers for humans, so not for written@…;
//   - Clone always passes -p, with which zfs clone says that it made a dataset that was there before (tried);
//   - Rename may unmount (no -u), Snapshot does not tell the GUID and costs a second command that does not either;
//   - Diff buffers without bound and cuts the escapes of zfs diff after three digits where OpenZFS prints four;
//   - create is followed by a zfs list whose failure looks like its own. Callers find the dataset then.
type library struct {
	runner *runner
}

// get reads one dataset.
func (l *library) get(ctx context.Context, full string) (*gozfs.Dataset, error) {
	var dataset *gozfs.Dataset
	err := l.call(ctx, []string{"zfs", "list", full}, func() (err error) {
		dataset, err = gozfs.GetDataset(full)
		return err
	})
	if err != nil {
		return nil, err // and not the dataset: the call may still be running
	}
	return dataset, nil
}

// property reads one property of text, "-" for unset.
func (l *library) property(ctx context.Context, full, name string) (string, error) {
	var value string
	err := l.call(ctx, []string{"zfs", "get", name, full}, func() (err error) {
		value, err = (&gozfs.Dataset{Name: full}).GetProperty(name)
		return err
	})
	if err != nil {
		return "", err
	}
	return value, nil
}

func (l *library) create(ctx context.Context, full string, properties map[string]string) error {
	return l.call(ctx, []string{"zfs", "create", full}, func() error {
		_, err := gozfs.CreateFilesystem(full, properties)
		return err
	})
}

func (l *library) set(ctx context.Context, full, name, value string) error {
	return l.call(ctx, []string{"zfs", "set", name + "=" + value, full}, func() error {
		return (&gozfs.Dataset{Name: full}).SetProperty(name, value)
	})
}

// destroy destroys exactly one dataset, snapshot or bookmark.
func (l *library) destroy(ctx context.Context, full string) error {
	return l.call(ctx, []string{"zfs", "destroy", full}, func() error {
		return (&gozfs.Dataset{Name: full}).Destroy(gozfs.DestroyDefault)
	})
}

// call runs f, which runs the command that args describe. When ctx is done before f is, f gets the grace time; after
// that the call is left behind and the command's outcome is unknown, as with a command of our own that does not die.
// All of these commands are one short ioctl each, which the kernel would not interrupt anyway.
func (l *library) call(ctx context.Context, args []string, f func() error) error {
	if ctx.Err() != nil {
		return newCommandError(args, nil, "", context.Cause(ctx))
	}
	began := time.Now()
	done := make(chan error, 1)
	l.runner.running.Go(func() { done <- f() })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		patience := time.NewTimer(l.runner.grace)
		defer patience.Stop()
		select {
		case err = <-done:
		case <-patience.C:
			cause := fmt.Errorf("%w: still running, outcome unknown", context.Cause(ctx))
			return l.runner.report(args, began, newCommandError(args, nil, "", cause))
		}
	}
	if err == nil {
		return l.runner.report(args, began, nil)
	}
	stderr := &tail{}
	var ran *gozfs.Error
	if errors.As(err, &ran) {
		_, _ = stderr.Write([]byte(ran.Stderr))
		err = ran.Err
	}
	return l.runner.report(args, began, newCommandError(args, err, stderr.String(), nil))
}
