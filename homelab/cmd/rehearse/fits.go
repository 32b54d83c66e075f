package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// A run took 1.8 GiB of disk and 1.6 GiB of memory at its peak, in bytes; half as much again is
// asked for, since what runs full in its middle would look like a fault of the homelab.
const diskNeeded, memoryNeeded = 3 << 30, 5 << 29

// fits refuses a machine on which a run would not fit: free disk at folder, and the memory
// that is available by the kernel's own count in meminfo (proc_meminfo(5)).
func fits(folder, meminfo string) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		return fmt.Errorf("ask for the room on the disk of %s: %w", folder, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < diskNeeded {
		return fmt.Errorf("%w: %s has %.1f GiB free of the %.0f that a run needs", errNotRehearsed, folder, gib(free), gib(diskNeeded))
	}
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return fmt.Errorf("ask for the free memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var available uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &available); n == 0 {
			continue
		}
		if available <<= 10; available < memoryNeeded {
			return fmt.Errorf("%w: %.1f GiB of memory are available of the %.1f that a run needs", errNotRehearsed, gib(available), gib(memoryNeeded))
		}
		return nil
	}
	return fmt.Errorf("ask for the free memory: %s has no MemAvailable", meminfo)
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }
