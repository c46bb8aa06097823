package demo

import (
	"fmt"
	"strconv"
	"time"
)

// size writes bytes for people: "0 bytes", "812 KiB", "8.2 MiB".
func size(bytes int64) string {
	if bytes < 0 {
		return "-" + size(-bytes)
	}
	if bytes < 1<<10 {
		return strconv.FormatInt(bytes, 10) + " bytes"
	}
	value, unit := float64(bytes), -1
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	for value >= 1<<10 && unit < len(units)-1 {
		value /= 1 << 10
		unit++
	}
	if value == float64(int64(value)) || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// span writes a duration for people: "85 ms", "1.2 s".
func span(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// rate writes how fast bytes moved.
func rate(bytes int64, took time.Duration) string {
	return size(int64(float64(bytes)/max(took, time.Millisecond).Seconds())) + "/s"
}
