package seccomp

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// usual allows what starts and ends a command.
const usual = `{"names":["execve","exit_group"],"action":"SCMP_ACT_ALLOW"}`

func TestLoad(t *testing.T) {
	for text, wrong := range map[string]string{
		`{"defaultAction":"SCMP_ACT_ALLOW"}`: "",
		`{"defaultAction":"SCMP_ACT_LOG","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC"]}`: "",
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[` + usual + `]}`:               "",
		``:                                      "EOF",
		`null`:                                  "neither defaultAction nor syscalls",
		`{}`:                                    "neither defaultAction nor syscalls",
		`[]`:                                    "array",
		`{"defaultAction":"SCMP_ACT_ALLOW"} {}`: "more behind",
		`{"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}`:                                                                                                                   `unknown field "sycalls"`,
		`{"defaultAction":"ALLOW"}`:                                                                                                                                         `"ALLOW" is no action`,
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`:                                                                                                                               "listener",
		`{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}`:                                                                                                            "no errnoRet",
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}`:                                                                                                         "errnoRet 4096",
		`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}`:                                                                                                                  "does not allow execve",
		`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["execve"],"action":"SCMP_ACT_ALLOW"}]}`:                                                                     "does not allow exit_group",
		`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}`:                                                                                                        "listenerPath",
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}`:                                                                                                        `"x86" is none`,
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}`:                                                                                            "",
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["x"]}`:                                                                                                                  `"x" is none`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`:                                                                                                              "null",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_KILL"}]}`:                                                                             "without names",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mout"],"action":"SCMP_ACT_KILL"}]}`:                                                                       `"mout" is no system call`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["s390_sthyi"],"action":"SCMP_ACT_KILL"}]}`:                                                                 "",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_KILL","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`:                               "argument 6",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_KILL","args":[{"index":0,"op":"=="}]}]}`:                                        `"==" is no operator`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_KILL","args":[{"index":0,"op":"SCMP_CMP_MASKED_EQ","value":1,"valueTwo":2}]}]}`: "never hold",
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_KILL"},{"names":["kill"],"action":"SCMP_ACT_LOG"}]}`:                            "kill has two actions",
		`{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64"}],"architectures":["SCMP_ARCH_X86"]}`:                                              "archMap",
	} {
		p, err := Load([]byte(text), nil)
		if wrong != "" {
			require.ErrorContains(t, err, wrong, "%s", text)
			continue
		}
		require.NoError(t, err, "%s", text)
		_, err = p.Compile("arm64")
		require.NoError(t, err)
	}
}

// TestLoadDocker: Docker's own file is taken and is the same profile.
func TestLoadDocker(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/profiles/seccomp").Output()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "default.json"))
	require.NoError(t, err)
	loaded, err := Load(text, caps)
	require.NoError(t, err)
	docker, err := Docker(caps)
	require.NoError(t, err)
	a, err := loaded.Compile(Machine)
	require.NoError(t, err)
	b, err := docker.Compile(Machine)
	require.NoError(t, err)
	require.Equal(t, b.Code, a.Code)
	require.Regexp(t, "^own sha256:[0-9a-f]{64}$", a.String())
}

// TestLoadMeaning: what the rules of a profile come to.
func TestLoadMeaning(t *testing.T) {
	p, err := Load([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":null,"syscalls":[
		{"names":["kill"],"action":"SCMP_ACT_ERRNO","errnoRet":3,"args":[{"index":0,"op":"SCMP_CMP_EQ","value":7},{"index":1,"op":"SCMP_CMP_GT","value":9}]},
		{"names":["tgkill"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"op":"SCMP_CMP_EQ","value":7},{"index":0,"op":"SCMP_CMP_EQ","value":8}]},
		{"names":["ioctl"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"SCMP_CMP_GE","value":5}]},
		{"names":["ioctl"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"op":"SCMP_CMP_GE","value":9}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"SCMP_CMP_EQ","value":9}]},
		{"names":["read"],"action":"SCMP_ACT_TRAP"}]}`), nil)
	require.NoError(t, err)
	f, err := p.Compile("amd64")
	require.NoError(t, err)
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want action
	}{
		{62, [6]uint64{7, 10}, errno(unix.ESRCH)},
		{62, [6]uint64{7, 9}, allow},
		{62, [6]uint64{8, 10}, allow},
		{234, [6]uint64{7}, errno(unix.EPERM)}, // one of two on the same argument
		{234, [6]uint64{8}, errno(unix.EPERM)},
		{234, [6]uint64{9}, allow},
		{16, [6]uint64{0, 5}, errno(unix.EPERM)},
		{16, [6]uint64{0, 9}, killProcess}, // the stricter
		{16, [6]uint64{0, 4}, allow},
		{0, [6]uint64{0, 9}, unix.SECCOMP_RET_TRAP}, // that without conditions
		{0, [6]uint64{}, unix.SECCOMP_RET_TRAP},
	} {
		require.Equal(t, c.want, interpret(t, f.Code, call{unix.AUDIT_ARCH_X86_64, c.nr, c.args}), "%d %v", c.nr, c.args)
	}
}

// FuzzLoad: nothing panics, and what is taken makes a filter that ends.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[` + usual + `]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_KILL","args":[{"index":0,"op":"SCMP_CMP_MASKED_EQ","value":4,"valueTwo":4}],"includes":{"caps":["CAP_KILL"],"minKernel":"4.8","arches":["amd64"]},"excludes":{}}]}`))
	f.Add([]byte(`{"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X32"]}],"defaultAction":"SCMP_ACT_LOG"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Load(text, caps)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, json.Valid(text))
		for goarch := range machines() {
			filter, err := p.Compile(goarch)
			if err != nil {
				require.ErrorContains(t, err, "the kernel takes")
				continue
			}
			valid(t, filter.Code)
			interpret(t, filter.Code, call{arch: machines()[goarch][0].audit, number: 1})
		}
	})
}
