// Kuma-sync makes an Uptime Kuma have the admin and the monitors that a file
// declares. It prints what it changed, one line each, so nothing if all was well.
//
//	kuma-sync --url http://127.0.0.1:3001 monitors.yaml
//
// ${NAME} in the file is replaced from the environment, or from the JSON object of strings in
// the file of --values, - for standard input. Exit codes: 0 as declared, 1 not all of it, 2 the
// command line or a file is wrong.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// deadline is for all of it. A monitor takes about ten milliseconds.
const deadline = 2 * time.Minute

func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kuma-sync", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: kuma-sync [--url URL] [--values FILE] DECLARATION\n\n"+
			"DECLARATION says which admin and monitors an Uptime Kuma shall have, as prod-services/kuma/monitors.yaml does.\n")
		flags.PrintDefaults()
	}
	url := flags.String("url", "http://127.0.0.1:3001", "where Uptime Kuma answers")
	from := flags.String("values", "", "a `file` with a JSON object of what is put in for ${NAME}, - for standard input; without it the environment")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return 2
	}
	if *from != "" {
		values, err := values(*from, stdin)
		if err != nil {
			fmt.Fprintf(stderr, "kuma-sync: %v\n", err)
			return 2
		}
		getenv = func(name string) string { return values[name] }
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

// values reads what is put into the declaration. No error repeats any of it.
func values(path string, stdin io.Reader) (map[string]string, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open the values: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	var all map[string]string
	if err := json.NewDecoder(io.LimitReader(stdin, 1<<20)).Decode(&all); err != nil {
		return nil, fmt.Errorf("read the values of %s: they are no JSON object of strings", path)
	}
	return all, nil
}
