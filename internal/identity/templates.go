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

	"go.yaml.in/yaml/v2" // the decoder that Incus reads it with: a file must not mean one thing here and another there

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

const metadataFile = "metadata.yaml"

// template is a file that the runtime writes into a tree at a start, as root of the host, wherever metadata.yaml says. Incus before
// 6.0.6 and 6.21 follows links and ".." there (CVE-2026-23954); later ones refuse to start such an instance.
type template struct {
	target string // below rootfs; several may be the same file in other words

	When       []string `yaml:"when"`
	CreateOnly bool     `yaml:"create_only"` // not over what is there
	Source     string   `yaml:"template"`    // a file in templates/
}

// applies tells whether the runtime may write it into a tree that is about to be used: at any start, and at the first one of a copy.
func (t template) applies(firstStart bool) bool {
	return slices.Contains(t.When, "start") || firstStart && slices.Contains(t.When, "copy")
}

// templatesOf reads what a dataset's metadata.yaml has written into the tree. A path that leads out of it, or a source that is no
// file's name, is ErrUnsupported.
func templatesOf(dataset *os.Root) ([]template, error) {
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
	templates := make([]template, 0, len(metadata.Templates))
	for target, template := range metadata.Templates {
		below := strings.TrimLeft(target, "/")
		if !filepath.IsLocal(below) || slices.Contains(strings.Split(below, "/"), "..") {
			return nil, fmt.Errorf("%s: the template for %q is outside of the tree: %w", metadataFile, target, errdefs.ErrUnsupported)
		}
		if template.Source != "" && path.Base(template.Source) != template.Source || template.Source == ".." {
			return nil, fmt.Errorf("%s: the template %q is outside of its directory: %w", metadataFile, template.Source, errdefs.ErrUnsupported)
		}
		template.target = path.Clean(below)
		templates = append(templates, template)
	}
	return templates, nil
}

// clearTemplateTargets makes sure that what the runtime writes from templates goes to files of this tree. A link that stays in it is left
// alone. What leads out of it is removed where a file belongs, and ErrUnsupported on the way there.
func (t tree) clearTemplateTargets(templates []template, firstStart bool) error {
	for _, template := range templates {
		if !template.applies(firstStart) {
			continue
		}
		end, err := t.root.Stat(template.target) // follows links, as far as they stay below the root
		if errors.Is(err, fs.ErrNotExist) || err == nil && end.Mode().IsRegular() {
			continue
		}
		here, lost := t.root.Lstat(template.target)
		switch {
		case errors.Is(lost, fs.ErrNotExist):
		case lost != nil: // a link on the way leads out
			return fmt.Errorf("/%s: %w: %w", template.target, errdefs.ErrUnsupported, lost)
		case here.Mode().IsRegular() || template.CreateOnly:
		case here.IsDir() || err == nil && end.IsDir():
			return fmt.Errorf("/%s is a directory: %w", template.target, errdefs.ErrUnsupported)
		default:
			if err := t.remove(template.target); err != nil {
				return err
			}
		}
	}
	return nil
}
