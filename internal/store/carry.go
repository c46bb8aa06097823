package store

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// carried returns value, the JSON of a T, with those members of stored, the record that it is to replace, that this version has no field
// for: an agent of a later version has put them there, and while a fleet is upgraded its records are written by agents of both. In a
// fleet of one version it returns value as it is.
//
// Members of a struct within are carried along; those of what a pointer or a slice holds only where its guid or id is the same, since
// else it is another thing.
func carried[T any](stored, value string) (string, error) {
	strict := json.NewDecoder(strings.NewReader(stored))
	strict.DisallowUnknownFields()
	if stored == "" || strict.Decode(new(T)) == nil {
		return value, nil
	}
	merged := carry(reflect.TypeFor[T](), json.RawMessage(stored), json.RawMessage(value))
	if sameJSON(merged, json.RawMessage(stored)) {
		return stored, nil // in the order of who wrote it: nothing is to be written
	}
	return string(merged), nil
}

// carry merges two values of a type; what is no object of fields it leaves as it is now.
func carry(t reflect.Type, stored, value json.RawMessage) json.RawMessage {
	switch {
	case t.Kind() == reflect.Pointer:
		if identityOf(stored) == "" || identityOf(stored) != identityOf(value) {
			return value
		}
		return carry(t.Elem(), stored, value)
	case t.Kind() == reflect.Slice:
		return carryList(t.Elem(), stored, value)
	case t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return value
	}
	var before, now map[string]json.RawMessage
	if json.Unmarshal(stored, &before) != nil || json.Unmarshal(value, &now) != nil || now == nil {
		return value
	}
	fields := fieldsOf(t)
	changed := false
	for name, was := range before {
		is, present := now[name]
		field, known := fields[strings.ToLower(name)]
		switch {
		case !known && !present:
			now[name], changed = was, true
		case known && present:
			if merged := carry(field, was, is); !bytes.Equal(merged, is) {
				now[name], changed = merged, true
			}
		}
	}
	if !changed {
		return value
	}
	return encoded(now, value)
}

// carryList merges the elements of a list with those of the same guid or id.
func carryList(t reflect.Type, stored, value json.RawMessage) json.RawMessage {
	var before, now []json.RawMessage
	if t.Kind() != reflect.Struct || json.Unmarshal(stored, &before) != nil || json.Unmarshal(value, &now) != nil {
		return value
	}
	byIdentity := make(map[string]json.RawMessage, len(before))
	for _, was := range before {
		byIdentity[identityOf(was)] = was
	}
	changed := false
	for i, is := range now {
		id := identityOf(is)
		if was, known := byIdentity[id]; known && id != "" {
			if merged := carry(t, was, is); !bytes.Equal(merged, is) {
				now[i], changed = merged, true
			}
		}
	}
	if !changed {
		return value
	}
	return encoded(now, value)
}

// encoded is the JSON of what was put together from JSON; fallback where that cannot be.
func encoded(what any, fallback json.RawMessage) json.RawMessage {
	data, err := json.Marshal(what)
	if err != nil {
		return fallback
	}
	return data
}

// identityOf is what an object is told from others by; empty for none.
func identityOf(value json.RawMessage) string {
	var named struct {
		GUID json.RawMessage `json:"guid"`
		ID   json.RawMessage `json:"id"`
	}
	if json.Unmarshal(value, &named) != nil {
		return ""
	}
	if len(named.GUID) > 0 {
		return string(named.GUID)
	}
	return string(named.ID)
}

// fieldsOf lists the types of a struct's fields by their names in JSON, in lower case, as encoding/json matches them.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type)
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || field.Anonymous && name == "" || !field.IsExported() {
			continue
		}
		if name == "" {
			name = field.Name
		}
		fields[strings.ToLower(name)] = field.Type
	}
	return fields
}

func sameJSON(x, y json.RawMessage) bool {
	var a, b any
	return json.Unmarshal(x, &a) == nil && json.Unmarshal(y, &b) == nil && reflect.DeepEqual(a, b)
}
