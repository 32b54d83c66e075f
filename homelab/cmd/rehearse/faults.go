package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"davidcockson.com/runner/homelab/internal/rehearsal"
)

// verify runs verify.yml and reads the evidence that it wrote. Without parts it tries all.
func (w *world) verify(ctx context.Context, parts ...string) ([]rehearsal.Finding, error) {
	if err := os.RemoveAll(evidence); err != nil {
		return nil, err
	}
	arguments := []string{"verify.yml"}
	if len(parts) > 0 {
		arguments = append(arguments, "-e", `{"verify_parts": ["`+strings.Join(parts, `", "`)+`"]}`)
	}
	_, playErr := w.playbook(ctx, arguments...)
	files, err := filepath.Glob(evidence + "/*.md")
	if err != nil || len(files) != 1 {
		return nil, errors.Join(fmt.Errorf("the verification left %d files of evidence", len(files)), err, playErr)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	found := rehearsal.Findings(string(text))
	if bad := rehearsal.Count(found, "fail"); (bad > 0) != (playErr != nil) {
		return nil, fmt.Errorf("%d findings failed, and verify.yml says %v", bad, playErr)
	}
	return found, nil
}

// verifyGreen wants everything to hold; without parts, all of it.
func (w *world) verifyGreen(ctx context.Context, parts ...string) (string, error) {
	found, err := w.verify(ctx, parts...)
	if err != nil {
		return "", err
	}
	if rehearsal.Count(found, "fail") > 0 {
		return "", errors.New(failures(found))
	}
	if rehearsal.Count(found, "pass") == 0 {
		return "", errors.New("the verification found nothing that holds")
	}
	return fmt.Sprintf("%d findings hold", rehearsal.Count(found, "pass")), nil
}

// A fault is made, named by the verification, and mended.
type fault struct {
	name, what   string   // what: the finding that must fail
	causes       []string // one of which that finding must have seen
	parts        []string // of the verification, that name it
	real         string
	make, remedy func(context.Context) (string, error) // what was seen beside
}

// faults makes each fault in turn. One that is not named, or not mended, fails its step and
// the play goes on, unless the time is over.
func (w *world) faults(ctx context.Context) error {
	for _, f := range w.allFaults() {
		err := w.step(ctx, f.name, f.real, func(ctx context.Context) (string, error) {
			seen, err := f.make(ctx)
			if err != nil {
				return "", fmt.Errorf("make it: %w", err)
			}
			found, err := w.verify(ctx, f.parts...)
			if err != nil {
				return "", err
			}
			named, ok := rehearsal.Named(found, f.what, f.causes...)
			if !ok {
				return "", fmt.Errorf("%q was not named with %q; %s", f.what, f.causes, failures(found))
			}
			return sentence(named.From+": "+named.What+": "+named.Seen, seen), nil
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
		err = w.step(ctx, "mended: "+f.name, f.real, func(ctx context.Context) (string, error) {
			seen, err := f.remedy(ctx)
			if err != nil {
				return "", err
			}
			green, err := w.verifyGreen(ctx, append([]string{"containers", "syncthing"}, f.parts...)...)
			return sentence(green, seen), err
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

func sentence(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
}

// failures lists the findings that failed.
func failures(found []rehearsal.Finding) string {
	var bad []string
	for _, f := range found {
		if f.Verdict == "fail" {
			bad = append(bad, f.From+" → "+f.To+", "+f.What+": "+f.Seen)
		}
	}
	if len(bad) == 0 {
		return "all findings hold"
	}
	return strings.Join(bad, "; ")
}
