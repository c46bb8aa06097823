package config

import "reflect"

// Changed lists the keys that differ between two configurations, in the order of the file.
func Changed(old, fresh Config) []string {
	before, after := fields(&old), fields(&fresh)
	var changed []string
	for i := range before {
		if !reflect.DeepEqual(before[i].value.Interface(), after[i].value.Interface()) {
			changed = append(changed, before[i].path)
		}
	}
	return changed
}
