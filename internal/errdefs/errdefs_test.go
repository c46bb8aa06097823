package errdefs

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestClassOf(t *testing.T) {
	missing := fmt.Errorf("dataset x: %w", ErrNotFound)
	for name, test := range map[string]struct{ err, want error }{
		"none":                         {nil, nil},
		"wrapped":                      {missing, ErrNotFound},
		"unclassified":                 {errors.New("surprise"), ErrInternal},
		"a cancelled context":          {fmt.Errorf("wait: %w", context.Canceled), ErrUnavailable},
		"an expired context":           {context.DeadlineExceeded, ErrUnavailable},
		"the outermost error decides":  {fmt.Errorf("copy: %w", New(ErrStale, "", "plan again").WithCause(missing)), ErrStale},
		"a class of joined errors":     {errors.Join(errors.New("other"), missing), ErrNotFound},
		"an error with a class inside": {New(ErrBusy, "CODE", "later"), ErrBusy},
	} {
		if got := ClassOf(test.err); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestClassesSurviveTheirNames(t *testing.T) {
	for _, class := range classes {
		if got := ClassNamed(class.Error()); got != class {
			t.Errorf("%v travels as %q and arrives as %v", class, class.Error(), got)
		}
	}
	if got := ClassNamed("no such class"); got != ErrInternal {
		t.Errorf("an unknown name is %v, want internal", got)
	}
}

func TestOnlySomeClassesAreRetryable(t *testing.T) {
	for _, class := range classes {
		want := class == ErrBusy || class == ErrUnavailable || class == ErrAborted || class == ErrStale
		if got := Retryable(fmt.Errorf("op: %w", class)); got != want {
			t.Errorf("%v: retryable %v, want %v", class, got, want)
		}
	}
}
