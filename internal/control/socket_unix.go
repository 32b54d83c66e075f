//go:build unix

package control

import "syscall"

// makePrivate takes a descriptor's file from all but its owner, where the system
// lets it.
func makePrivate(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) }
