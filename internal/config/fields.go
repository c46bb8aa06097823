package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is one settable key: where it stands in the file, and its value in a Config.
type field struct {
	path  string // "api.tls.cert"
	value reflect.Value
}

// fields lists every key of cfg, in the order of the structs. File and environment both write through it, so a key can
// never be known to one and unknown to the other.
func fields(cfg *Config) []field { return collect("", reflect.ValueOf(cfg).Elem()) }

func collect(prefix string, section reflect.Value) []field {
	var all []field
	for i := range section.NumField() {
		path := prefix + section.Type().Field(i).Tag.Get("yaml")
		if value := section.Field(i); value.Kind() == reflect.Struct {
			all = append(all, collect(path+".", value)...)
		} else {
			all = append(all, field{path, value})
		}
	}
	return all
}

// env is the variable that overrides the field: HOODY_API_TLS_CERT for api.tls.cert.
func (f field) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

func (f field) isList() bool { return f.value.Kind() == reflect.Slice }

// set reads text into the field. The error says what the field takes.
func (f field) set(text string) error {
	switch target := f.value.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a duration such as 30s or 1h30m, is %q", text)
		}
		*target = d
	case *string:
		*target = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number, is %q", text)
		}
		*target = n
	case *bool:
		switch text {
		case "true", "false":
			*target = text == "true"
		default:
			return fmt.Errorf("must be true or false, is %q", text)
		}
	case *[]string:
		*target = splitList(text)
	default:
		return fmt.Errorf("has a type that no text can set: %T", target)
	}
	return nil
}

func (f field) setList(items []string) { f.value.Set(reflect.ValueOf(items)) }

// splitList reads the environment's form of a list: items between commas, none of them empty.
func splitList(text string) []string {
	items := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
