package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

const envPrefix = "HOODY_"

// Load returns the defaults, overlaid by the file at path, overlaid by the HOODY_<SECTION>_<KEY> variables of environ,
// validated. An empty path means no file. The error joins every problem found, so that they can be mended in one go.
func Load(path string, environ []string) (Config, error) {
	cfg := Default()
	var problems []error
	if path != "" {
		text, err := readFile(path, false)
		if err != nil {
			return cfg, fmt.Errorf("read configuration: %w", err)
		}
		_, err = decode(path, text, &cfg)
		problems = append(problems, err)
	}
	problems = append(problems, applyEnviron(&cfg, environ))
	// A value that could not be read has left its default in place, which is valid: nothing is reported twice.
	problems = append(problems, cfg.Validate())
	return cfg, errors.Join(problems...)
}

// applyEnviron sets the fields that environ names. A variable that starts like one of ours but names no key is a
// typing error; HOODY_ variables of other programs are not our business.
func applyEnviron(cfg *Config, environ []string) error {
	byName := map[string]field{}
	var sections []string
	for _, f := range fields(cfg) {
		byName[f.env()] = f
		if section, _, nested := strings.Cut(f.path, "."); nested {
			sections = append(sections, envPrefix+strings.ToUpper(section)+"_")
		}
	}
	var problems []error
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if f, ok := byName[name]; ok {
			if err := f.set(text); err != nil {
				problems = append(problems, fmt.Errorf("environment: %s: %w", name, err))
			}
			continue
		}
		if slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(name, s) }) {
			problems = append(problems, fmt.Errorf("environment: %s: names no key of the configuration", name))
		}
	}
	return errors.Join(problems...)
}

// YAML is the configuration as a file that Load would read back.
func (c Config) YAML() ([]byte, error) {
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return text, nil
}
