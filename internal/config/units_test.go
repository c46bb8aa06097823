package config

import (
	"math"
	"testing"
)

func TestBytes(t *testing.T) {
	for _, test := range []struct {
		text string
		want Bytes
		back string
	}{
		{"0", 0, "0"},
		{"4096", 4096, "4KiB"},
		{"1000", 1000, "1000"},
		{"512 MiB", 512 << 20, "512MiB"},
		{"1.5GB", 1_500_000_000, "1500000000"},
		{"2TiB", 2 << 40, "2TiB"},
		{"3kB", 3000, "3000"},
		{"7B", 7, "7"},
		{"18446744073709551615", math.MaxUint64, "18446744073709551615"},
	} {
		var got Bytes
		if err := got.UnmarshalText([]byte(test.text)); err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got != test.want || got.String() != test.back {
			t.Errorf("%s: got %d, %q; want %d, %q", test.text, uint64(got), got, uint64(test.want), test.back)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5", "MiB", "1 XB", "1e30TiB", "NaNMiB", "-2MiB", "5MiB/s", "InfGB"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: read as %d, want an error", text, uint64(got))
		}
	}
}

func TestRate(t *testing.T) {
	for _, test := range []struct {
		text string
		want Rate
		back string
	}{
		{"0", 0, "0"},
		{"0MiB/s", 0, "0"},
		{"100MiB/s", 100 << 20, "100MiB/s"},
		{"1Gbit/s", 125_000_000, "125000000/s"},
		{"800 kbit/s", 100_000, "100000/s"},
		{"125000000/s", 125_000_000, "125000000/s"},
	} {
		var got Rate
		if err := got.UnmarshalText([]byte(test.text)); err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got != test.want || got.String() != test.back {
			t.Errorf("%s: got %d, %q; want %d, %q", test.text, uint64(got), got, uint64(test.want), test.back)
		}
	}
	for _, text := range []string{"", "5", "5MiB", "fast/s", "-1MB/s"} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: read as %d, want an error", text, uint64(got))
		}
	}
}

func FuzzBytes(f *testing.F) {
	for _, seed := range []string{"1", "1.5GB", "512MiB", "9999999TiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, again Bytes
		if first.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(first.String())); err != nil || again != first {
			t.Errorf("%q is %d, printed %q, read back as %d, %v", text, uint64(first), first, uint64(again), err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("api:\n  listen: 127.0.0.1:1\n"))
	f.Add([]byte("store: {endpoints: [a, b], embedded: {quota: 1GiB}}\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		cfg := Default()
		_, _ = decode("fuzz", text, &cfg) // must return, whatever it says
	})
}
