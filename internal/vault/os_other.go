//go:build !linux && !darwin

package vault

// The identifier is undefined on purpose: the compiler's message is the sentence
// that a user of such a system reads.
func openOS(string) (FS, error) {
	return runner_needs_linux_or_macos__on_Windows_use_WSL2()
}
