package zfs

import (
	"fmt"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// The rules of zfs(8) and zfsprops(7), a little narrower: '%' and ',' are range operators to zfs destroy and '%' names
// hidden datasets, so neither is part of a name here, and no component starts with '-'.
const (
	maxName          = 255  // ZFS_MAX_DATASET_NAME_LEN less its final zero, for "dataset@snapshot" as a whole
	maxPropertyName  = 255  // likewise for user properties
	maxPropertyValue = 8191 // ZAP_MAXVALUELEN less its final zero
)

// invalid is an ErrInvalid that quotes the offending name.
func invalid(what, name, why string) error {
	return fmt.Errorf("%s %q: %s: %w", what, name, why, errdefs.ErrInvalid)
}

// checkDataset checks the name of a dataset, with its components divided by '/'.
func checkDataset(name string) error {
	if len(name) > maxName {
		return invalid("dataset name", name[:32]+"…", "too long")
	}
	for component := range strings.SplitSeq(name, "/") {
		if err := checkComponent("dataset name", component); err != nil {
			return err
		}
	}
	return nil
}

// checkComponent checks one part of a name: between slashes, or after '@' or '#'.
func checkComponent(what, component string) error {
	switch {
	case component == "":
		return invalid(what, component, "empty component")
	case component == "." || component == "..":
		return invalid(what, component, "relative component")
	case component[0] == '-':
		return invalid(what, component, "starts with '-'")
	case len(component) > maxName:
		return invalid(what, component[:32]+"…", "too long")
	}
	for _, c := range []byte(component) {
		if !nameByte(c) {
			return invalid(what, component, fmt.Sprintf("character %q", c))
		}
	}
	return nil
}

func nameByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-_.: ", c) >= 0
}

// dataset returns the full name of a dataset below the root.
func (p *Pool) dataset(name string) (string, error) {
	full := p.root + "/" + name
	return full, checkDataset(full)
}

// snapshot returns the full name of "dataset@snapshot" and the full name of its dataset.
func (p *Pool) snapshot(name string) (full, dataset string, err error) {
	return p.version(name, "@")
}

// version returns the full names of a snapshot or bookmark and of its dataset; kinds holds the separators allowed.
func (p *Pool) version(name, kinds string) (full, dataset string, err error) {
	at := strings.IndexAny(name, kinds)
	if at < 0 {
		return "", "", invalid("snapshot name", name, "no "+kinds)
	}
	if dataset, err = p.dataset(name[:at]); err != nil {
		return "", "", err
	}
	if err = checkComponent("snapshot name", name[at+1:]); err != nil {
		return "", "", err
	}
	full = p.root + "/" + name
	if len(full) > maxName {
		return "", "", invalid("snapshot name", name, "too long")
	}
	return full, dataset, nil
}

// checkProperty checks a property's name and value. Native names are lower case; user properties hold a colon.
// "origin" is not a property to set but receive's way to choose a base, so it only ever comes from ReceiveSpec.Origin.
func checkProperty(name, value string) error {
	if name == "" || len(name) > maxPropertyName {
		return invalid("property", name, "bad length")
	}
	user := strings.Contains(name, ":")
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z'
		digit := c >= '0' && c <= '9'
		switch {
		case letter, digit && i > 0, c == '_' && i > 0:
		case user && i > 0 && strings.IndexByte(":.-", c) >= 0:
		default:
			return invalid("property", name, fmt.Sprintf("character %q", c))
		}
	}
	if name == "origin" {
		return invalid("property", name, "cannot be set")
	}
	if len(value) > maxPropertyValue {
		return invalid("property", name, "value too long")
	}
	for _, c := range []byte(value) {
		if c < ' ' || c == 0x7f { // a tab or newline would forge lines of our own listings
			return invalid("property", name, "control character in value")
		}
	}
	return nil
}

// splitVersion cuts "dataset@snapshot" or "dataset#bookmark" in two.
func splitVersion(name string) (dataset, version string, bookmark bool) {
	if dataset, version, ok := lineage.SplitSnapshot(name); ok {
		return dataset, version, false
	}
	dataset, version, bookmark = strings.Cut(name, "#")
	return dataset, version, bookmark
}
