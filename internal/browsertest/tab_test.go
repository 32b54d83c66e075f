package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"davidcockson.com/runner/internal/peertest"
)

// tab is a page of the control room.
type tab struct {
	t      *testing.T
	ctx    context.Context
	base   string        // of the control room, without a slash at its end
	dialog chan struct{} // one signal: the page asks a question

	mu sync.Mutex
	// faults are what a page must never do; guarded by mu.
	faults []string
	// allowed are faults that the test provokes; guarded by mu.
	allowed []*regexp.Regexp
	// asked are the questions that the page asked; guarded by mu.
	asked []string
}

// watcher reports, in each document, what the protocol's events do not tell, and
// that a script of somebody else has run.
const watcher = `addEventListener("securitypolicyviolation", (e) => console.error("policy: " + e.violatedDirective + " " + e.blockedURI + " " + e.sample));
for (const name of ["alert", "prompt", "print"]) globalThis[name] = () => console.error("a hostile script ran: " + name);`

// tab opens a tab in a browser context of its own, without a cookie.
func (r *room) tab() *tab {
	r.t.Helper()
	return openTab(r.t, theBrowser.start(r.t), r.base(), chromedp.WithNewBrowserContext())
}

// beside opens a further tab of the same person.
func (p *tab) beside() *tab {
	p.t.Helper()
	return openTab(p.t, p.ctx, p.base, chromedp.WithNewWindow(true)) // a tab behind another would sleep
}

func openTab(t *testing.T, parent context.Context, base string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	p := &tab{t: t, base: base, dialog: make(chan struct{}, 1)}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(p.saw))...)
	p.ctx = ctx
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // it is gone either way
		cancel()
		<-done
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range p.faults {
			t.Errorf("the page: %s", fault)
		}
	})
	go func() { defer close(done); p.agree() }()
	_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watcher})
	p.must(err)
	// Each page believes to be in front.
	_, err = chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.must(err)
	return p
}

// saw takes what the browser tells of the tab.
func (p *tab) saw(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, arg := range e.Args {
				words = append(words, string(arg.Value)+arg.Description)
			}
			p.fault("console: %s", strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		words := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			words += " " + e.ExceptionDetails.Exception.Description
		}
		p.fault("exception: %s", words)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.fault("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		// A data: URL leaves nothing; Chromium's own controls are drawn by some.
		if !strings.HasPrefix(e.Request.URL, p.base+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
			p.fault("request to %s", e.Request.URL)
		}
	case *page.EventJavascriptDialogOpening:
		p.mu.Lock()
		p.asked = append(p.asked, e.Message)
		p.mu.Unlock()
		select {
		case p.dialog <- struct{}{}:
		default:
		}
	}
}

func (p *tab) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	for _, a := range p.allowed {
		if a.MatchString(text) {
			return
		}
	}
	p.faults = append(p.faults, text)
}

// allow names a fault that the test provokes: what the browser writes into its
// console about a request that fails.
func (p *tab) allow(pattern string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, regexp.MustCompile(pattern))
}

// allowLoss allows what the browser and htmx say when the server goes away.
func (p *tab) allowLoss() {
	p.allow(`^network: Failed to load resource: net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED) `)
	p.allow(`^console: "htmx: htmx:(sse:)?error: `)
}

// agree says yes to each question of the page.
func (p *tab) agree() {
	for {
		select {
		case <-p.dialog:
			_, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}) // without an answer the test hangs, and says so
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *tab) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("the browser: %v", err)
	}
}

// open loads a page of the control room.
func (p *tab) open(path string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, peertest.Patience)
	defer cancel()
	p.must(chromedp.Do(ctx, chromedp.Navigate(p.base+path)))
}

// reload loads the page again.
func (p *tab) reload() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, peertest.Patience)
	defer cancel()
	p.must(chromedp.Do(ctx, chromedp.Reload()))
}

// eval is the value of an expression in the page; a promise is awaited.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := tryEval[T](p, expression)
	if err != nil {
		p.t.Fatalf("the browser: %v\n%s", err, expression)
	}
	return v
}

func tryEval[T any](p *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, peertest.Patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true. While a page loads it is not.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	guard := time.NewTimer(peertest.Patience)
	defer guard.Stop()
	for {
		if ok, err := tryEval[bool](p, "Promise.resolve("+expression+").then((v) => !!v)"); ok && err == nil {
			return
		}
		select {
		case <-look.C:
		case <-guard.C:
			state, err := tryEval[string](p, `location.href + ", " + document.visibilityState + ": " + document.body.innerText.replace(/\s+/g, " ").slice(-1500)`)
			p.t.Fatalf("never: %s\n%s\n%s %v", what, expression, state, err)
		}
	}
}

// quoted is text as a literal of JavaScript.
func quoted(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	return string(data)
}

// sees waits until the words stand in the elements that a selector names.
func (p *tab) sees(selector, words string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%q is in %s", words, selector), "[...document.querySelectorAll("+quoted(selector)+")].some((e) => e.checkVisibility({ visibilityProperty: true }) && e.innerText.includes("+quoted(words)+"))")
}

// has waits until a selector names an element.
func (p *tab) has(selector string) {
	p.t.Helper()
	p.until("there is "+selector, "document.querySelector("+quoted(selector)+")")
}

// text is the visible text of the first element that a selector names.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, "document.querySelector("+quoted(selector)+")?.innerText ?? ''")
}

// count is how many elements a selector names.
func (p *tab) count(selector string) int {
	p.t.Helper()
	return eval[int](p, "document.querySelectorAll("+quoted(selector)+").length")
}

// spot tells where a click reaches an element, null while none does: it is hidden,
// disabled, on the move, or something lies over it.
const spot = `(async (selector) => {
	for (const e of document.querySelectorAll(selector)) {
		if (!e.checkVisibility({ visibilityProperty: true }) || e.disabled) continue;
		e.scrollIntoView({ block: "center", behavior: "instant" });
		const before = e.getClientRects()[0];
		await new Promise((still) => requestAnimationFrame(() => requestAnimationFrame(still)));
		const box = e.getClientRects()[0];
		if (!box || box.x !== before?.x || box.y !== before?.y) continue;
		const x = box.x + box.width / 2, y = box.y + box.height / 2;
		const top = document.elementFromPoint(x, y);
		if (top && (e.contains(top) || top.contains(e))) return [x, y];
	}
	return null;
})`

// click clicks the first element that a selector names and a person could click.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.until("one can click "+selector, spot+"("+quoted(selector)+").then((at) => globalThis.clickAt = at)")
	at := eval[[]float64](p, "clickAt")
	p.must(chromedp.Do(p.ctx, chromedp.MouseClickXY(at[0], at[1])))
}

// unfold opens what a summary folds away, where it is closed.
func (p *tab) unfold(details string) {
	p.t.Helper()
	p.has(details)
	if !eval[bool](p, "document.querySelector("+quoted(details)+").open") {
		p.click(details + " > summary")
	}
	p.until(details+" is open", "document.querySelector("+quoted(details)+").open")
}

// insert puts text where the focus is, as a paste does.
func (p *tab) insert(text string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text})
	p.must(err)
}

// press presses a key, such as kb.Enter, with modifiers. Text that the key makes
// goes with its press, as from a keyboard: a page that takes the press takes both.
func (p *tab) press(key string, modifiers ...kb.Modifier) {
	p.t.Helper()
	k := kb.Keys[[]rune(key)[0]]
	event := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: k.Key, Code: k.Code, WindowsVirtualKeyCode: k.Windows, NativeVirtualKeyCode: k.Native}
	for _, m := range modifiers {
		event.Modifiers |= int64(m)
	}
	if k.Print {
		event.Text, event.UnmodifiedText = k.Text, k.Unmodified
	}
	_, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, event)
	p.must(err)
	event.Type, event.Text, event.UnmodifiedText = input.DispatchKeyEventTypeKeyUp, "", ""
	_, err = chromedp.Call(p.ctx, input.DispatchKeyEvent, event)
	p.must(err)
}

// write puts a message into the composer.
func (p *tab) write(text string) {
	p.t.Helper()
	p.click("#text")
	p.insert(text)
}

// send asks a model, given as provider/model, and waits for the page to show that.
func (p *tab) send(choice, text string) {
	p.t.Helper()
	turns := p.count(".turn")
	p.choose(choice)
	p.write(text)
	p.press(kb.Enter)
	p.until("the message is shown", fmt.Sprintf("document.querySelectorAll('.turn').length === %d && document.querySelector('#text').value === ''", turns+1))
}

// choose chooses a model in the picker.
func (p *tab) choose(choice string) {
	p.t.Helper()
	p.has("#choice option[value=" + quoted(choice) + "]")
	eval[bool](p, `((c) => { c.value = `+quoted(choice)+`; c.dispatchEvent(new Event("change", { bubbles: true })); return true; })(document.querySelector("#choice"))`)
}

// done waits until no answer is under way.
func (p *tab) done() {
	p.t.Helper()
	p.until("the answer has ended", "document.querySelector('.turn') && !document.querySelector('[data-running]')")
}

// size sets the size of the window, in CSS pixels.
func (p *tab) size(width, height int64, options ...chromedp.EmulateViewportOption) {
	p.t.Helper()
	p.must(chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height, options...)))
}

// scheme sets what the person prefers: light or dark.
func (p *tab) scheme(name string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	p.must(err)
}

// shoot is a picture of what the window shows, as PNG.
func (p *tab) shoot() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, peertest.Patience)
	defer cancel()
	data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	p.must(err)
	if len(data) == 0 {
		p.must(errors.New("an empty picture"))
	}
	return data
}
