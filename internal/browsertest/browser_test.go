// Package browsertest uses the control room as its owner does: a real Chromium at
// the real program, with a model server that does what each test says.
//
// Every test fails on an error in the console, an exception of a page, a breach of
// the content security policy, and a request to anything but the program itself.
// It also makes the pictures of the README. Only tests are in it.
package browsertest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"davidcockson.com/runner/internal/peertest"
)

var update = flag.Bool("update", false, "write the pictures of docs/images")

func TestMain(m *testing.M) {
	// The tests wait more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := peertest.Main(m)
	if err := theBrowser.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// chromium is the one Chromium of all tests.
type chromium struct {
	once    sync.Once
	profile string
	ctx     context.Context
	cancel  []context.CancelFunc
	err     error
}

var theBrowser chromium

// start starts Chromium, once, with a profile of its own.
func (b *chromium) start(t *testing.T) context.Context {
	t.Helper()
	path := peertest.Need(t, "chromium")
	b.once.Do(func() {
		if b.profile, b.err = os.MkdirTemp("", "chromium"); b.err != nil {
			return
		}
		allocator, end := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.UserDataDir(b.profile),
			chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-timer-throttling", true),
			chromedp.Flag("disable-backgrounding-occluded-windows", true), chromedp.Flag("disable-renderer-backgrounding", true),
			chromedp.Flag("force-color-profile", "srgb"), chromedp.WindowSize(1280, 800))
		ctx, cancel := chromedp.NewContext(allocator)
		b.ctx, b.cancel = ctx, []context.CancelFunc{cancel, end}
		b.err = chromedp.Do(ctx)
	})
	if b.err != nil {
		t.Fatalf("start Chromium: %v", b.err)
	}
	return b.ctx
}

// end ends Chromium, waits for it, and removes its profile.
func (b *chromium) end() error {
	if b.ctx != nil {
		_ = chromedp.Cancel(b.ctx) // it is gone either way
	}
	for _, cancel := range b.cancel {
		cancel()
	}
	if b.profile == "" {
		return nil
	}
	return os.RemoveAll(b.profile)
}
