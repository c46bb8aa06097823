package hosts

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// recipe holds the scripts that make images and the files laid over a guest's root.
//
//go:embed recipe/*.sh recipe/*.c recipe/preseed.yaml recipe/kernel.fragment all:recipe/guest
var recipe embed.FS

// fingerprint names what is built from the given recipe files, folders included, and other inputs.
// Equal fingerprints mean equal artefacts, so the name of a cache folder is all the bookkeeping there is.
func fingerprint(files []string, inputs ...string) (string, error) {
	sum := sha256.New()
	for _, root := range files {
		err := fs.WalkDir(recipe, filepath.Join("recipe", root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := recipe.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(sum, "%s %d\n%s\n", path, len(content), content)
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read recipe %s: %w", root, err)
		}
	}
	for _, input := range inputs {
		fmt.Fprintf(sum, "%d %s\n", len(input), input)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// unpackRecipe writes the recipe into dir, for the programs that read it from there.
func unpackRecipe(dir string) error {
	tree, err := fs.Sub(recipe, "recipe")
	if err != nil {
		return fmt.Errorf("open recipe: %w", err)
	}
	if err := os.CopyFS(dir, tree); err != nil {
		return fmt.Errorf("unpack recipe into %s: %w", dir, err)
	}
	return nil
}
