package peertest

import (
	"fmt"
	"syscall"
	"testing"
)

// Address returns an address on the loopback on which nothing listens, and which no
// other test is given until this one has ended: a server of it may listen there, stop
// and listen again, and nobody else's answers meanwhile.
//
// A socket that is bound and does not listen keeps the port. Who names the port may
// listen on it beside that socket, as both may share the address (SO_REUSEADDR, which
// Go, nginx and others set); who lets the system choose is not given it.
func Address(t testing.TB) string {
	t.Helper()
	syscall.ForkLock.RLock() // no child inherits it
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatalf("share the address of a socket: %v", err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("bind a socket: %v", err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatalf("ask for a socket's address: %v", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}
