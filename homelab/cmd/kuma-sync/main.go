// Kuma-sync makes an Uptime Kuma have the admin and the monitors that a file
// declares. It prints what it changed, one line each, so nothing if all was well.
//
//	kuma-sync --url http://127.0.0.1:3001 monitors.yaml
//
// ${NAME} in the file is replaced from the environment. Exit codes: 0 as declared,
// 1 not all of it, 2 the command line or the file is wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"davidcockson.com/runner/homelab/internal/kuma"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// deadline is for all of it. A monitor takes about ten milliseconds.
const deadline = 2 * time.Minute

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kuma-sync", flag.ContinueOnError)
	flags.SetOutput(stderr)
	url := flags.String("url", "http://127.0.0.1:3001", "where Uptime Kuma answers")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(stderr, "usage: kuma-sync [--url URL] FILE")
		return 2
	}
	declaration, err := kuma.Load(flags.Arg(0), getenv)
	if err != nil {
		fmt.Fprintf(stderr, "kuma-sync: %v\n", err)
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	changes, err := kuma.Sync(ctx, *url, declaration)
	for _, change := range changes {
		fmt.Fprintln(stdout, change)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kuma-sync: %v\n", err)
		return 1
	}
	return 0
}
