package sandbox

import (
	"slices"
	"strings"
)

// defaultPath is the PATH of a command that is given no other.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// argv is the argument vector of c in an image with this entrypoint and command.
func argv(c *Cmd, entrypoint, command []string) ([]string, error) {
	args := c.Args
	if len(args) == 0 {
		args = command
	}
	if len(c.Args) == 0 || c.Entrypoint {
		args = slices.Concat(entrypoint, args)
	}
	if len(args) == 0 || args[0] == "" {
		return nil, &FieldError{"Cmd.Args", nil, "empty, and no image says what to run"}
	}
	return args, nil
}

// mergeEnv joins environments; of one key the last value counts, at the place
// of the first.
func mergeEnv(envs ...[]string) []string {
	var merged []string
	at := map[string]int{}
	for _, env := range envs {
		for _, e := range env {
			key, _, _ := strings.Cut(e, "=")
			if i, ok := at[key]; ok {
				merged[i] = e
				continue
			}
			at[key] = len(merged)
			merged = append(merged, e)
		}
	}
	return merged
}

func lookEnv(env []string, key string) string {
	for _, e := range env {
		if k, v, _ := strings.Cut(e, "="); k == key {
			return v
		}
	}
	return ""
}
