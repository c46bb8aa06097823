package store

import (
	"maps"
	"slices"
)

// Changes returns what the transaction has changed so far among servers, projects, containers, snapshot lists, jobs and
// users, in the order of their keys: as the mirror's subscribers will see it, and the jobs without their histories.
func (tx *Tx) Changes() ([]Change, error) {
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(tx.writes)) {
		kind, id, ok := tx.keys.split(key)
		if !ok {
			continue
		}
		change, err := changeOf(kind, id, tx.before[key], tx.get(key))
		if err != nil {
			return nil, err
		}
		if change.Kind != "" {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

func changeOf(kind Kind, id, before, after string) (Change, error) {
	switch kind {
	case KindServer:
		return recordChange[Server](kind, id, before, after)
	case KindProject:
		return recordChange[Project](kind, id, before, after)
	case KindContainer:
		return recordChange[Container](kind, id, before, after)
	case KindHistory:
		return recordChange[History](kind, id, before, after)
	case KindJob:
		return recordChange[Job](kind, id, before, after)
	case KindUser:
		return recordChange[User](kind, id, before, after)
	}
	return Change{}, nil
}

func recordChange[T Record](kind Kind, id, before, after string) (Change, error) {
	old, err := decodeIfAny[T](kind, id, before)
	if err != nil {
		return Change{}, err
	}
	new, err := decodeIfAny[T](kind, id, after)
	if err != nil {
		return Change{}, err
	}
	return newChange(kind, id, old, new), nil
}

func decodeIfAny[T any](kind Kind, id, value string) (*T, error) {
	if value == "" {
		return nil, nil
	}
	return decode[T](kind.noun()+" "+id, []byte(value))
}
