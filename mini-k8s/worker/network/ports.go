package network

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// Claim takes a port of this machine, as who listens at it does, but does not listen: packets for it go elsewhere by the
// rules. So no program and no other cluster can have it, and who has it keeps it.
func Claim(protocol string, port int) (io.Closer, error) {
	kind := map[string]int{"tcp": syscall.SOCK_STREAM, "udp": syscall.SOCK_DGRAM}[protocol] // 0, which there is not, for others
	socket, err := syscall.Socket(syscall.AF_INET, kind, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for %s port %d: %w", protocol, port, err)
	}
	syscall.CloseOnExec(socket)
	file := os.NewFile(uintptr(socket), "node port")
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Port: port}); err != nil {
		file.Close()
		return nil, fmt.Errorf("take %s port %d: %w", protocol, port, err)
	}
	return file, nil
}
