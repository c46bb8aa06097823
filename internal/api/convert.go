package api

import (
	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// value is what p points to, or the zero value: in requests null, absent and the zero value mean the same.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// orNil is the inverse of value: in answers the contract says null, or nothing, where a record has the zero value.
func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// orEmpty makes an absent list an empty one: the contract has no null lists.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func each[From, To any](list []From, convert func(From) To) []To {
	converted := make([]To, len(list))
	for i, one := range list {
		converted[i] = convert(one)
	}
	return converted
}

func pagination(query agent.ListQuery, total int) contract.Pagination {
	return contract.Pagination{
		Total:      total,
		Page:       query.Page,
		Limit:      query.Limit,
		TotalPages: (total + query.Limit - 1) / query.Limit,
	}
}
