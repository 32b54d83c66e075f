package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/pflag"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/sqlite"
)

// environment is what a command sees of the world around it.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

// The exit codes of every command.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitConfig
	exitNoWorker
	exitNotFound
	exitConflict
	exitJob
)

// exitCodes tells what each exit code means, by its number.
func exitCodes() []string {
	return []string{
		exitOK:       "done",
		exitFailed:   "what was asked for failed; the reason is on stderr",
		exitUsage:    "the command line is wrong",
		exitConfig:   "the configuration is wrong or missing",
		exitNoWorker: "it needs a running worker, and there is none",
		exitNotFound: "there is no such job, or more than one",
		exitConflict: "the job is not in a state for that",
		exitJob:      "submit --wait: the job did not complete",
	}
}

// command is one word of the command line.
type command struct {
	name, args, short string
	run               func(ctx context.Context, c *call) error
	// flags adds the command's own flags.
	flags func(*pflag.FlagSet, *options)
}

// options holds the values of all flags; each command reads its own.
type options struct {
	config                       string
	json                         bool
	takeOver                     bool
	live                         bool
	kind, provider, model, title string
	wait                         bool
	states                       []string
	limit                        int
	vault, stateDir, token       string
	demo, examples               bool
}

// call is one use of a command.
type call struct {
	environment
	options
	args []string
}

func commands() []command {
	return []command{
		{"up", "", "run all there is, in one process", runUp, takeOverFlag},
		{"worker", "", "drain the queue", runWorker, takeOverFlag},
		{"web", "", "serve the control room, beside a worker or alone", runWeb, nil},
		{"init", "", "make the vault's folders, and a configuration if there is none", runInit, func(f *pflag.FlagSet, o *options) {
			f.StringVar(&o.vault, "vault", "", "the vault's `folder`, for a configuration that is made")
			f.StringVar(&o.stateDir, "state-dir", "", "the `folder` for our own state, outside the vault, for a configuration that is made")
			f.BoolVar(&o.demo, "demo", false, "fill what is missing with a demo: vault and state beside the configuration, and a first job")
			f.BoolVar(&o.examples, "examples", false, "put into the vault what it lacks of the examples: templates, an overview for Obsidian Bases, a page that explains them")
		}},
		{"submit", "[PROMPT | FILE | -]", "put a job into the queue", runSubmit, func(f *pflag.FlagSet, o *options) {
			f.StringVar(&o.kind, "type", "text", "the job's `type`: text, chain or research")
			f.StringVar(&o.provider, "provider", "", "the `name` of who is asked (default: the configuration's first)")
			f.StringVar(&o.model, "model", "", "the `name` of the model (default: the provider's first)")
			f.StringVar(&o.title, "title", "", "the job's `title`, also in file names")
			f.BoolVar(&o.wait, "wait", false, "wait for the answer and print it")
			jsonFlag(f, o)
		}},
		{"list", "", "list what waits, runs and ended last", runList, func(f *pflag.FlagSet, o *options) {
			f.StringSliceVar(&o.states, "state", nil, "only these `states`, with commas between: waiting, held, duplicate, active, completed, failed, cancelled")
			f.IntVar(&o.limit, "limit", 0, "at most so `many` (default: all that are open, and the last 100)")
			jsonFlag(f, o)
		}},
		{"show", "JOB", "tell all of one job", runShow, jsonFlag},
		{"retry", "JOB...", "run failed, cancelled or held jobs again", runRetry, jsonFlag},
		{"cancel", "JOB...", "end jobs that run, wait or are held", runCancel, jsonFlag},
		{"check", "[NOTE...]", "try the configuration, or tell what notes would ask", runCheck, func(f *pflag.FlagSet, o *options) {
			f.BoolVar(&o.live, "live", false, "only ask whether the worker is alive and claims jobs")
			jsonFlag(f, o)
		}},
		{"link", "", "print the control room's login link", runLink, nil},
		{"passwd", "", "set the control room's password, or add a token for a program", runPasswd, func(f *pflag.FlagSet, o *options) {
			f.StringVar(&o.token, "token", "", "add and print a token for the program of this `name`, instead of setting the password")
		}},
		{"backup", "[FOLDER]", "copy ledger and chats, also while a worker runs", runBackup, nil},
		{"restore", "FOLDER", "put a backup in the place of ledger and chats; nothing may run", runRestore, nil},
		{"version", "", "print the version", runVersion, jsonFlag},
	}
}

func jsonFlag(f *pflag.FlagSet, o *options) {
	f.BoolVar(&o.json, "json", false, "print JSON, for scripts")
}

func takeOverFlag(f *pflag.FlagSet, o *options) {
	f.BoolVar(&o.takeOver, "take-over", false, "take the vault from a worker with another state folder")
}

// flagSet makes the command's flags, which fill in o.
func (c command) flagSet(o *options) *pflag.FlagSet {
	flags := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.config, "config", "", "the configuration `file` (default: runner.yaml here, then /etc/runner/runner.yaml)")
	if c.flags != nil {
		c.flags(flags, o)
	}
	return flags
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, env environment) int {
	if len(args) == 2 && args[0] == "help" {
		args = []string{args[1], "--help"}
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(env.stdout)
		return exitOK
	}
	if strings.HasPrefix(args[0], "-") {
		return report(env, usageError{fmt.Sprintf("the command comes first: runner COMMAND %s; `runner help` lists the commands", args[0])})
	}
	for _, cmd := range commands() {
		if cmd.name != args[0] {
			continue
		}
		c := &call{environment: env}
		flags := cmd.flagSet(&c.options)
		if err := flags.Parse(args[1:]); err != nil {
			if errors.Is(err, pflag.ErrHelp) {
				fmt.Fprintf(env.stdout, "runner %s\n  %s\n\n%s", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.short, flags.FlagUsages())
				return exitOK
			}
			return report(env, usageError{fmt.Sprintf("%v; see `runner %s --help`", err, cmd.name)})
		}
		c.args = flags.Args()
		if cmd.args == "" && len(c.args) > 0 {
			// What was given is not repeated: it may be a password.
			return report(env, usageError{fmt.Sprintf("runner %s takes no argument; see `runner %s --help`", cmd.name, cmd.name)})
		}
		return report(env, cmd.run(ctx, c))
	}
	return report(env, usageError{fmt.Sprintf("there is no command %q; `runner help` lists them", args[0])})
}

func usage(w io.Writer) {
	fmt.Fprint(w, "runner drains a folder queue of markdown notes through language models.\n\nUsage: runner COMMAND [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-28s %s\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	}
	fmt.Fprint(w, "\n`runner COMMAND --help` tells a command's flags. A JOB is a job's id, the\nbeginning of one, or the name of its note.\n\nExit codes:\n")
	for code, meaning := range exitCodes() {
		fmt.Fprintf(w, "  %d  %s\n", code, meaning)
	}
}

// usageError is a command line that cannot be carried out.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// configError is a configuration that cannot be used.
type configError struct{ err error }

func (e configError) Error() string { return e.err.Error() }
func (e configError) Unwrap() error { return e.err }

// jobError is a job that was waited for and did not complete.
type jobError struct{ text string }

func (e jobError) Error() string { return e.text }

// report turns an error into a sentence on stderr and an exit code. It is the
// only place that does.
func report(env environment, err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(env.stderr, "runner: %v\n", err)
	var usage usageError
	var conf configError
	var job jobError
	var refused *control.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &conf):
		return exitConfig
	case errors.As(err, &job):
		return exitJob
	case errors.Is(err, control.ErrNoWorker):
		return exitNoWorker
	case errors.As(err, &refused):
		switch refused.Code {
		case control.NotFound, control.Ambiguous:
			return exitNotFound
		case control.Conflict, control.Refused:
			return exitConflict
		}
	case errors.Is(err, sqlite.ErrTooNew):
		return exitConfig
	}
	return exitFailed
}

// load reads the configuration and prints its warnings. It needs none of the variables
// and files that hold secrets.
func (c *call) load() (*config.Config, error) { return c.loadBy(config.LoadWithoutSecrets) }

// loadWithSecrets is load for those who ask servers that want a key.
func (c *call) loadWithSecrets() (*config.Config, error) { return c.loadBy(config.Load) }

func (c *call) loadBy(read func(string, []string) (*config.Config, []config.Warning, error)) (*config.Config, error) {
	conf, warnings, err := read(c.config, c.environ)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && c.config != "" {
			err = fmt.Errorf("%w; `runner init --config %s` makes one", err, c.config)
		}
		return nil, configError{err}
	}
	for _, w := range warnings {
		fmt.Fprintf(c.stderr, "runner: warning: %s\n", w)
	}
	return conf, nil
}
