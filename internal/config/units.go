package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. Its text is a number with an optional unit: "2GiB", "1.5 TB", "4096".
type Bytes uint64

// Rate is bytes per second. Its text is a size per second, or bits as networks count them: "100MiB/s", "1Gbit/s", "0".
type Rate uint64

type unit struct {
	name string
	size float64
}

// Longest names first within a suffix, so that "MiB" is not read as a number ending in "Mi" and the unit "B".
// The binary ones lead: they are what a value is printed in.
func byteUnits() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
	}
}

func bitUnits() []unit {
	return []unit{{"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"bit", 1.0 / 8}}
}

// UnmarshalText reads the forms that the type's comment names.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := parseQuantity(string(text), byteUnits())
	if err != nil {
		return fmt.Errorf("must be a size such as 512MiB, is %q", text)
	}
	*b = Bytes(n)
	return nil
}

// MarshalText is the inverse of UnmarshalText, exactly.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b Bytes) String() string {
	for _, u := range byteUnits()[:4] {
		if size := Bytes(u.size); b >= size && b%size == 0 {
			return strconv.FormatUint(uint64(b/size), 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(b), 10)
}

// UnmarshalText reads the forms that the type's comment names.
func (r *Rate) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	number, perSecond := strings.CutSuffix(s, "/s")
	if !perSecond && s != "0" {
		return fmt.Errorf("must be a rate such as 100MiB/s or 1Gbit/s, or 0 for no limit, is %q", text)
	}
	n, err := parseQuantity(number, append(bitUnits(), byteUnits()...))
	if err != nil {
		return fmt.Errorf("must be a rate such as 100MiB/s or 1Gbit/s, or 0 for no limit, is %q", text)
	}
	*r = Rate(n)
	return nil
}

// MarshalText is the inverse of UnmarshalText, exactly.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return Bytes(r).String() + "/s"
}

func parseQuantity(s string, units []unit) (uint64, error) {
	number, size := strings.TrimSpace(s), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	if size == 1 {
		// Whole bytes take the exact way: a float64 is not exact beyond 2^53.
		return strconv.ParseUint(number, 10, 64)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, err
	}
	n *= size
	if math.IsNaN(n) || n < 0 || n >= math.MaxUint64 {
		return 0, strconv.ErrRange
	}
	return uint64(math.Round(n)), nil
}
