package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Units of sizes are powers of 1,024, here by their exponents of 2.
var units = map[string]int{"": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30}

// parseSize parses a whole number of bytes with an optional unit.
func parseSize(text string) (bytes int64, err error) {
	unit := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64)
	power, ok := units[strings.ToLower(unit)]
	if err != nil || !ok || n > math.MaxInt64>>power {
		return 0, errors.New("not a size like 512k, 64MiB or 1GiB")
	}
	return n << power, nil
}
