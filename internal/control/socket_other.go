//go:build !unix

package control

// makePrivate is for systems on which the vault's package refuses to build.
func makePrivate(uintptr) {}
