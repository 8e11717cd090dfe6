package sandbox

// Security says how closely a sandbox is held. The zero value is the default for hostile commands.
type Security struct {
	// Seccomp says which system calls the commands may make (seccomp(2)):
	//
	//	""        the default: Docker's profile, without what hardly a program uses and hostile ones do
	//	"strict"  for programs that compute, as a judge runs them: also no other processes' memory, no
	//	          sockets but of AF_UNIX, no System V or POSIX queues, no watches, no clearing of PR_SET_PDEATHSIG
	//	"docker"  Docker's profile as it is (github.com/moby/profiles); 32-bit programs need it
	//	"off"     all
	//	"{…}"     one's own: the "seccomp" object of the OCI runtime spec as JSON (config-linux.md), or a file of
	//	          Docker's form. Without a listener: SCMP_ACT_NOTIFY is an error.
	//
	// A call that is refused fails with EPERM, one that this version does not know and clone3 with ENOSYS, as on a
	// kernel without it; a call of another architecture (int 0x80, x32) ends the process with SIGSYS. A filter needs
	// amd64 or arm64. Applied.Seccomp says which one was installed.
	Seccomp string
}
