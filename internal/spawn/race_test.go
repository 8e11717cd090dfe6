//go:build linux && race

package spawn

// Under the race detector a program starts and runs several times slower: fewer rounds.
const (
	raceDetector  = true
	kills         = 100
	stormRounds   = 4
	randomCancels = 25
)
