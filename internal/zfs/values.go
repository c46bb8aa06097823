package zfs

import (
	"slices"
	"strings"
)

// valueColumns is what one dataset is read with: only zfs get tells where a value is from.
const valueColumns = "name,property,value,source"

// values are the lines of `zfs get -Hp -d1 all` of one dataset, its snapshots and bookmarks, by object. It is for one
// reading, by one goroutine.
type values struct {
	full  string
	names []string // in the order of the lines: the dataset first
	of    map[string]map[string]string
	local map[string]string // user properties that the dataset itself has
}

func newValues(full string) *values {
	return &values{full: full, of: make(map[string]map[string]string), local: make(map[string]string)}
}

// add takes one line. One of another form is the rest of a value with a newline in it, which we never write and others
// may; what is of a child is not asked for.
func (v *values) add(line string) error {
	columns := strings.Split(line, "\t")
	if len(columns) < 4 {
		return nil
	}
	// The value is whatever is between: a user's may hold a tab.
	name, property, value, source := columns[0], columns[1], strings.Join(columns[2:len(columns)-1], "\t"), columns[len(columns)-1]
	dataset, _, _ := splitVersion(name)
	if dataset != v.full {
		return nil
	}
	if v.of[name] == nil {
		v.of[name] = make(map[string]string)
		v.names = append(v.names, name)
	}
	switch {
	case !strings.Contains(property, ":"):
		v.of[name][property] = value
	case name == v.full && source == "local":
		v.local[property] = value
	}
	return nil
}

// fill puts what was read into a listing, as lines of zfs list and zfs get would.
func (v *values) fill(l *listing) error {
	columns := strings.Split(listColumns, ",")
	for _, name := range v.names {
		line := slices.Clone(columns)
		line[0] = name
		for i, column := range columns[1:] {
			line[i+1] = "-"
			if value, known := v.of[name][column]; known {
				line[i+1] = value
			}
		}
		if err := l.addEntry(strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	for property, value := range v.local {
		l.addProperty(v.full + "\t" + property + "\t" + value)
	}
	return nil
}
