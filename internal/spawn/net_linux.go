package spawn

import "golang.org/x/sys/unix"

// LoopbackUp adds the calls that set IFF_UP on lo (netdevice(7)).
func LoopbackUp(p *Program) {
	fd := p.Do("socket", "", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	var ifreq [40]byte
	copy(ifreq[:], "lo")
	ifreq[unix.IFNAMSIZ] = unix.IFF_UP | unix.IFF_RUNNING
	p.Do("ioctl SIOCSIFFLAGS", "lo", unix.SYS_IOCTL, fd, unix.SIOCSIFFLAGS, p.Bytes(ifreq[:]))
}
