// Package killtest kills the worker: real processes on a real file system end by
// SIGKILL, or are told to stop by SIGTERM, and what they leave is looked at.
//
// It has tests only. The test binary starts itself anew as the worker that is
// killed; the model that answers there keeps a bill of its calls in a file, which
// outlives every kill. The one check after each kill is world.check: every note
// lies in exactly one folder with its bytes, every completed one has exactly one
// whole output, nothing was asked again whose answer was stored, and each attempt
// asked for each step once at most. A killed process loses no write that a file
// system call returned from; a power loss does, and is tested in package worker.
package killtest
