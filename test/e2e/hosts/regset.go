package hosts

import (
	"context"
	"os/exec"
	"path/filepath"
)

// regsetLibrary compiles what makes guests faster (see recipe/regset.c) and returns where it is, "" without a C compiler: then
// they are as fast as they are.
func (b *builder) regsetLibrary(ctx context.Context) (string, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		b.cache.log.say("no C compiler: guests run at their slower pace")
		return "", nil
	}
	key, err := fingerprint([]string{"regset.c"})
	if err != nil {
		return "", err
	}
	dir, err := b.cache.get(ctx, "regset", key, func(ctx context.Context, dir string) error {
		if err := unpackRecipe(filepath.Join(dir, "work")); err != nil {
			return err
		}
		return run(ctx, compiler, "-O2", "-shared", "-fPIC", "-o", filepath.Join(dir, "regset.so"), filepath.Join(dir, "work", "regset.c"))
	})
	return filepath.Join(dir, "regset.so"), err
}
