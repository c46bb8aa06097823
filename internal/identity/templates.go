package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2" // what Incus reads it with: a file must not mean one thing here and another there

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const metadataFile = "metadata.yaml"

// template is a file that the runtime writes into a tree at a start, as root of the host, wherever metadata.yaml says. Incus before
// 6.0.6 and 6.21 follows links and ".." there (CVE-2026-23954); later ones refuse to start such an instance.
type template struct {
	When       []string `yaml:"when"`
	CreateOnly bool     `yaml:"create_only"` // not over what is there
	Source     string   `yaml:"template"`    // a file in templates/
}

// applies tells whether the runtime may write it into a tree that is about to be used: at the first start of a copy or at any.
func (t template) applies() bool {
	return slices.ContainsFunc(t.When, func(trigger string) bool { return trigger != "create" })
}

// templatesOf reads what a dataset's metadata.yaml has written into the tree, by path below rootfs. A path that leads out of it, or a
// source that is no file's name, is ErrUnsupported.
func templatesOf(dataset *os.Root) (map[string]template, error) {
	content, _, ok, err := tree{root: dataset}.read(metadataFile)
	if err != nil || !ok {
		return nil, err
	}
	var metadata struct {
		Templates map[string]template `yaml:"templates"`
	}
	if err := yaml.Unmarshal(content, &metadata); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", metadataFile, errdefs.ErrUnsupported, err)
	}
	templates := make(map[string]template, len(metadata.Templates))
	for target, template := range metadata.Templates {
		below := strings.TrimLeft(target, "/")
		if !filepath.IsLocal(below) || slices.Contains(strings.Split(below, "/"), "..") {
			return nil, fmt.Errorf("%s: the template for %q is outside of the tree: %w", metadataFile, target, errdefs.ErrUnsupported)
		}
		if template.Source != "" && path.Base(template.Source) != template.Source || template.Source == ".." {
			return nil, fmt.Errorf("%s: the template %q is outside of its directory: %w", metadataFile, template.Source, errdefs.ErrUnsupported)
		}
		templates[path.Clean(below)] = template
	}
	return templates, nil
}

// clearTemplateTargets makes sure that what the runtime writes from templates goes to files of this tree: a link where such a file
// belongs is removed, one on the way there is ErrUnsupported.
func (t tree) clearTemplateTargets(templates map[string]template) error {
	for target, template := range templates {
		if !template.applies() {
			continue
		}
		if dir := path.Dir(target); dir != "." {
			if exists, err := t.directory(dir); err != nil || !exists {
				if err != nil {
					return err
				}
				continue
			}
		}
		info, err := t.root.Lstat(target)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.Mode().IsRegular() || template.CreateOnly: // what is there is left as it is
		case info.IsDir():
			return fmt.Errorf("/%s is a directory: %w", target, errdefs.ErrUnsupported)
		default:
			if err := t.remove(target); err != nil {
				return err
			}
		}
	}
	return nil
}
