package sandbox

import "github.com/seed-5a9fb6e0/sandbox/internal/world"

// landlockFeatures are what the kernel's ABI of Landlock can do for commands.
func landlockFeatures(abi int) (all []Feature) {
	for _, f := range []struct {
		name, version string
		abi           int
	}{
		{"Landlock", "5.19", 2},
		{"Landlock of abstract sockets and signals, for Options.Network: Host", "6.12", 6},
	} {
		var err error
		if abi < f.abi {
			err = &world.Unsupported{What: f.name, Remedy: "Linux " + f.version + " or newer, with landlock among the lsm= of its command line"}
		}
		all = append(all, Feature{f.name, err})
	}
	return all
}
