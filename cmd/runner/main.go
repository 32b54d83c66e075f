// Runner drains a folder queue of markdown notes through language models.
//
// A tour, bottom up: note is a markdown note as text; vault the folder on disk,
// with durable writes and moves that never replace; sqlite a database file; live
// the events of a running answer; secret a key that does not print; config the
// owner's file. provider is the vocabulary of asking, with ollama and echo below
// it; job says what a job is. queue is the folder queue, files only; ledger what
// was asked and answered, outside the vault; jobtype runs one job. worker decides
// the order between queue and ledger. control is how a command asks the process
// that holds the vault. wire.go builds all of them.
package main

import (
	"context"
	"os"
	"runtime/debug"
)

// collectAt is how much new memory, in percent of what is in use, is made before it is
// collected: half of Go's own, since a thousand open streams are mostly short-lived
// memory and must stay small. GOGC in the environment goes before it.
const collectAt = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	os.Exit(run(context.Background(), os.Args[1:], environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}))
}
