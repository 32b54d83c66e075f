// Testrun runs the project's tests and says at its end what it left out.
//
//	go run tools/testrun/main.go ./...
//
// Tests run with the race detector where a C compiler works, else without. A
// test that skips itself lacks a peer (another program) and counts as left out;
// with CI=true anything left out fails the run. Output is that of go test, of
// failed tests alone. SOAK is handed on as RUNNER_SOAK; other variables that
// begin with RUNNER_ are settings of the product, and are kept from the tests.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Println(err)
		stop()
		os.Exit(1)
	}
}

// spared keeps the race detector out of SQLite itself, which is C made into Go, not
// ours, and with the detector in it half of the tests' time. No wider: a package that
// makes the library's generic code its own, as the driver does with sync.Map, would
// put that into the program without the detector, which then sees races where a lock
// is held.
const spared = "-gcflags=modernc.org/sqlite/lib=-race=false"

func run(ctx context.Context, packages []string, out io.Writer) error {
	// Tests of the whole mostly wait for another process, so that more packages than
	// processors are under way at once.
	args := []string{"test", "-json", "-count=1", "-timeout=10m", fmt.Sprintf("-p=%d", 2*runtime.NumCPU())}
	cgo := "CGO_ENABLED=0"
	var leftOut []string
	if compilesC(ctx) {
		args, cgo = append(args, "-race", spared), "CGO_ENABLED=1"
	} else {
		leftOut = []string{"race detector (no C compiler)"}
	}
	test := exec.CommandContext(ctx, "go", append(args, packages...)...)
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) }
	test.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "RUNNER_")
	}), cgo, "RUNNER_SOAK="+cmp.Or(os.Getenv("SOAK"), "1"))
	test.Stderr = out
	events, err := test.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	if err := test.Start(); err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	skipped, reportErr := report(events, out)
	err = errors.Join(reportErr, test.Wait())

	leftOut = append(leftOut, skipped...)
	fmt.Fprintln(out, "left out:", cmp.Or(strings.Join(leftOut, ", "), "nothing"))
	if err != nil {
		return fmt.Errorf("tests failed: %w", err)
	}
	if os.Getenv("CI") == "true" && len(leftOut) > 0 {
		return errors.New("with CI=true nothing may be left out")
	}
	return nil
}

// compilesC reports whether Go's C compiler makes a program: the race detector
// needs the compiler and the C library's headers.
func compilesC(ctx context.Context) bool {
	name, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	words := strings.Fields(string(name))
	if err != nil || len(words) == 0 {
		return false
	}
	cc := exec.CommandContext(ctx, words[0], append(words[1:], "-x", "c", "-o", os.DevNull, "-")...)
	cc.Stdin = strings.NewReader("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
	return cc.Run() == nil
}

// event is a line of go test -json; see go doc test2json.
type event struct{ Action, Package, Test, Output string }

// report copies from the events what a reader needs: all that a failed test or
// package said, and one closing line of each package. It returns the tests that
// skipped themselves, each with its reason.
func report(events io.Reader, out io.Writer) (skipped []string, err error) {
	type source struct{ pkg, test string }
	said := make(map[source][]string)
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return skipped, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return skipped, fmt.Errorf("read the events of go test: %w", err)
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(out, "%s", line)
			continue
		}
		from := source{e.Package, e.Test}
		switch {
		case e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Action == "output":
			said[from] = append(said[from], e.Output)
		case e.Action == "fail" && e.Test == "":
			// Tests that a panic or the timeout cut short have no end of their own.
			for other, text := range said {
				if other.pkg == e.Package && other.test != "" {
					fmt.Fprint(out, strings.Join(text, ""))
					delete(said, other)
				}
			}
			fallthrough
		case e.Action == "fail":
			fmt.Fprint(out, strings.Join(said[from], ""))
			delete(said, from)
		case e.Action == "skip" && e.Test != "":
			skipped = append(skipped, fmt.Sprintf("%s (%s)", e.Test, reason(said[from])))
			delete(said, from)
		case (e.Action == "pass" || e.Action == "skip") && e.Test == "":
			if text := said[from]; len(text) > 0 {
				fmt.Fprint(out, text[len(text)-1])
			}
			delete(said, from)
		case e.Action == "pass":
			delete(said, from)
		}
	}
}

// reason is what a skipped test gave to Skip, without the place in the code.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, text, ok := strings.Cut(line, ": "); ok {
			return text
		}
		return line
	}
	return "no reason given"
}
