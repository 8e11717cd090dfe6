//go:build linux && !race

package spawn

const (
	raceDetector  = false
	kills         = 500 // embedders that are killed, as root and as an ordinary user each
	stormRounds   = 16  // of each of 64 goroutines
	randomCancels = 100 // by each of 8 goroutines
)
