package browsertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	gemma = "davas/gemma3:12b"
	// running is where the text of an answer under way stands.
	running = ".turn[data-running] [data-text]"
)

// shows waits until the running answer is just this text.
func (p *tab) shows(text string) {
	p.t.Helper()
	p.until("the page shows "+text, "document.querySelector("+quoted(running)+")?.textContent === "+quoted(text))
}

// answered is the text of the last answer that has ended.
func (p *tab) answered() string {
	p.t.Helper()
	p.done()
	return strings.TrimSpace(eval[string](p, `[...document.querySelectorAll(".turn > .message.assistant .body.answer")].at(-1)?.innerText ?? ""`))
}

func TestTokensArriveOneAfterAnother(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Count to five")
	c := r.davas.next()
	whole := ""
	for _, piece := range []string{"One", ", two", ", three", ", four", ", five."} {
		c.say(piece)
		whole += piece
		p.shows(whole)
	}
	c.end()
	if got := p.answered(); got != whole {
		t.Errorf("the answer is shown as %q", got)
	}
	for _, fact := range []string{"42 written", "20.0 tokens/s", "first token after"} {
		p.sees(".facts", fact)
	}
	p.sees("#talks", "Count to five")
}

func TestStop(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		stop func(*tab)
	}{
		{"the button stops an answer", func(p *tab) { p.click("button.stop") }},
		{"Esc stops an answer", func(p *tab) { p.press(kb.Escape) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t)
			p := r.enter()
			p.send(gemma, "Tell a long story")
			c := r.davas.next()
			c.say("Once upon a time")
			p.shows("Once upon a time")
			p.click("button[popovertarget=settings]") // what lies over the chat takes Esc for itself
			p.press(kb.Escape)
			p.until("the settings are closed", `!document.querySelector("#settings").matches(":popover-open")`)
			c.say(", there was")
			p.shows("Once upon a time, there was")
			began := time.Now()
			row.stop(p)
			within(t, "the call at the provider ends", c.gone)
			// Its mark is one second; a busy machine is no fault of ours.
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the call ended after %s", took)
			}
			if got := p.answered(); got != "Once upon a time, there was" {
				t.Errorf("what had come is shown as %q", got)
			}
			p.sees(".turn .notice", "Stopped here")
			p.reload()
			p.sees(".turn .notice", "Stopped here")
			p.sees(".body.answer", "Once upon a time")
			p.send(gemma, "Go on") // and the conversation goes on
			r.davas.next().end()
		})
	}
}

func TestTheModelIsSwitchedWithinAConversation(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send("echo/echo", "first question")
	p.sees(".turn .message.assistant header", "echo")
	p.done()
	p.send("davas/small:1b", "second question")
	c := r.davas.next()
	c.say("from the small one")
	c.end()
	p.answered()
	p.sees("#turn-2 .message.assistant header", "small:1b")
	p.sees("#turn-1 .message.assistant header", "echo")
	p.reload()
	p.until("the page chooses the model that was asked last", `document.querySelector("#choice").value === "davas/small:1b"`)
	// A new conversation begins with it, too.
	p.open("/chat")
	p.until("a new conversation begins with it", `document.querySelector("#choice").value === "davas/small:1b"`)
}

func TestAnsweredAnewTheEarlierAnswerStays(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Name a river")
	c := r.davas.next()
	c.say("The Thames")
	c.end()
	p.answered()
	p.click("form.again button")
	c = r.davas.next()
	c.say("The Severn")
	p.shows("The Severn")
	p.unfold("details.earlier") // what one asked anew about is there to be compared
	p.sees("details.earlier .body.answer", "The Thames")
	p.reload()
	p.shows("The Severn")
	p.unfold("details.earlier")
	p.sees("details.earlier .body.answer", "The Thames")
	c.end()
	if got := p.answered(); got != "The Severn" {
		t.Errorf("the newest version is %q", got)
	}
	for range 2 { // as it came, and as it is read again
		if n := p.count(".turn"); n != 1 {
			t.Errorf("%d messages are shown", n)
		}
		p.unfold("details.earlier")
		p.sees("details.earlier .body.answer", "The Thames")
		p.reload()
		p.has("details.earlier")
	}
}

func TestThinkingIsFoldedAway(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "What is 6 times 7?")
	c := r.davas.next()
	c.think("Six sevens are")
	p.until("thinking is told", `document.querySelector("[data-thinking]")?.textContent === "Six sevens are"`)
	if eval[bool](p, `document.querySelector("[data-thinking]").checkVisibility()`) {
		t.Error("thinking is shown without being asked for")
	}
	p.sees(".turn summary", "Thinking")
	c.think(" forty-two.")
	c.say("42")
	p.shows("42")
	c.end()
	if got := p.answered(); got != "42" {
		t.Errorf("the answer is shown as %q", got)
	}
	if strings.Contains(p.text(".messages"), "forty-two") {
		t.Error("thinking is shown without being asked for")
	}
	p.unfold(".thinking")
	p.sees(".thinking > div", "Six sevens are forty-two.")

	// Who reads along goes on reading.
	p.send(gemma, "And 7 times 8?")
	c = r.davas.next()
	c.think("Seven eights")
	p.unfold("[data-running] .thinking")
	c.think(" are fifty-six.")
	c.say("56")
	c.end()
	p.done()
	p.sees("#turn-2 .thinking > div", "Seven eights are fifty-six.")
}

func TestWhileNothingComesThePageSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	load := r.davas.slow()
	p.send(gemma, "Good morning")
	p.sees("[data-phase]", "Loading the model")
	p.until("time passes", `/^\d+ s$/.test(document.querySelector("[data-elapsed]")?.textContent)`)
	p.until("time ticks", `parseInt(document.querySelector("[data-elapsed]")?.textContent) >= 2`)
	p.reload()
	p.sees("[data-phase]", "Loading the model")
	if now := p.text("[data-elapsed]"); now == "0 s" || now == "1 s" {
		t.Errorf("after a reload the time begins anew, with %s", now)
	}
	load()
	c := r.davas.next()
	p.sees("[data-phase]", "Reading the prompt")

	behind := p.beside()
	behind.open("/chat")
	behind.send(gemma, "Me too")
	behind.sees("[data-phase]", "in line at davas behind another conversation")
	behind.until("time ticks", `parseInt(document.querySelector("[data-elapsed]")?.textContent) >= 1`)
	behind.reload()
	behind.sees("[data-phase]", "in line at davas behind another conversation")

	c.say("Good")
	p.shows("Good")
	p.until("the phase gives way to the text", `!document.querySelector("[data-phase]").checkVisibility()`)
	c.end()
	c = r.davas.next()
	behind.sees("[data-phase]", "Reading the prompt")
	c.say("You too")
	c.end()
	behind.answered()

	r.davas.sleep()
	p.send(gemma, "Are you there?")
	p.sees("[data-phase]", "davas cannot be reached since")
	p.until("time ticks", `parseInt(document.querySelector("[data-elapsed]")?.textContent) >= 1`)
	r.davas.wake()
	c = r.davas.next() // it is asked again, by itself
	c.say("Here")
	c.end()
	if got := p.answered(); got != "Here" {
		t.Errorf("the answer is shown as %q", got)
	}
}

func TestALineShowsWhatTheModelNoLongerSees(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	r.davas.answer("stanza", "Here it is.")
	for i := range 4 {
		p.send("davas/small:1b", fmt.Sprintf("Learn stanza %d: %s", i+1, strings.Repeat("and the rain fell down ", 20)))
		p.answered()
	}
	p.reload()
	p.sees(".forgotten", "no longer sees what is above this line")
	if n := p.count(".forgotten"); n != 1 {
		t.Errorf("%d lines", n)
	}
	if eval[bool](p, `!!document.querySelector("#turn-1 .forgotten")`) {
		t.Error("the line stands above all")
	}
}

func TestADraftSurvives(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/chat")
	p.write("half a thought")
	p.reload()
	p.until("the draft is there after a reload", `document.querySelector("#text").value === "half a thought"`)
	p.click("form[action=\"/logout\"] button")
	p.sees("h1", "Sign in")
	p.open(r.link())
	p.open("/chat")
	p.until("the draft is there after a sign-out", `document.querySelector("#text").value === "half a thought"`)
	p.send("echo/echo", ", and the rest")
	p.done()
	p.reload()
	p.until("a message that was sent is no draft", `document.querySelector("#text")?.value === ""`)
}

func TestEnterSendsAndShiftEnterBreaks(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.choose("echo/echo")
	p.write("one")
	p.press(kb.Enter, kb.ModifierShift)
	p.insert("two")
	p.until("there are two lines", `document.querySelector("#text").value === "one\ntwo"`)
	if n := p.count(".turn"); n != 0 {
		t.Error("Shift+Enter sent the message")
	}
	p.press(kb.Enter)
	p.done()
	if got := p.text(".message.user .body"); got != "one\ntwo" {
		t.Errorf("the message is shown as %q", got)
	}
}

func TestAFailureIsShownInItsPlace(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Try")
	c := r.davas.next()
	c.say("I beg")
	c.fail("llama runner process has terminated: out of memory")
	p.done()
	p.sees(".turn .notice.error", "out of memory")
	p.sees(".body.answer", "I beg") // what had come stays
	p.click("form.again button")
	c = r.davas.next()
	c.say("Now it goes")
	p.shows("Now it goes")
	c.end()
	if got := p.answered(); got != "Now it goes" {
		t.Errorf("after a retry the page shows %q", got)
	}
	// A failure that its reader can mend says how.
	p.send("echo/silent", "x") // a model that says no more
	p.until("it has begun", "document.querySelector("+quoted(running)+")?.textContent")
	p.press(kb.Escape)
	p.done()
	p.send("davas/small:1b", strings.Repeat("far too long ", 300))
	p.done()
	p.sees("#turn-3 .notice.error", "does not fit the context")
	p.sees("#turn-3 .notice.error", "What to do: shorten the prompt, or raise num_ctx")
	if n := p.count("form.again"); n != 1 {
		t.Errorf("%d ways to try again", n)
	}
}

func TestCopying(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: name},
			Setting: browser.PermissionSettingGranted, Origin: p.base, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID})
		p.must(err)
	}
	r.davas.answer("hello", "Like **this**:\n\n", "```go\npackage main\n\nfunc main() { println(\"hi\") }\n```\n")
	p.send(gemma, "hello in Go")
	p.answered()
	if n := p.count(".code pre span[class]"); n == 0 {
		t.Error("the code is not highlighted")
	}
	for _, row := range []struct{ button, want string }{
		{".code button.copy", "package main\n\nfunc main() { println(\"hi\") }"},
		{".message.user button.copy", "hello in Go"},
		{".message.assistant > header button.copy", "Like this:"},
	} {
		p.click(row.button)
		p.until("it is copied", `navigator.clipboard.readText().then((text) => text.trim().startsWith(`+quoted(row.want)+`))`)
		p.sees(row.button, "Copied")
	}
}

// TestAConversationIsNamedDeletedAndBroughtBack begins it with a system prompt, whose
// effect the model server sees.
func TestAConversationIsNamedDeletedAndBroughtBack(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/chat")
	p.unfold(".composer details.settings")
	p.click("textarea[name=system]")
	p.insert("Answer like a pirate.")
	p.click(".composer input[name=temperature]")
	p.insert("three")
	p.choose(gemma)
	p.write("Where is the ship?")
	p.allow("^network: .*422")
	p.press(kb.Enter)
	p.sees("#composer [data-error]", "the temperature is a number from 0 to 2")
	eval[bool](p, `document.querySelector(".composer input[name=temperature]").value = "", true`)
	p.click("#text")
	p.press(kb.Enter)
	c := r.davas.next()
	if c.system != "Answer like a pirate." {
		t.Errorf("the system prompt that was sent is %q", c.system)
	}
	c.say("Arr.")
	c.end()
	p.done()

	p.click("button[popovertarget=settings]")
	p.click("#settings input[name=title]")
	eval[bool](p, `document.querySelector("#settings input[name=title]").select(), true`)
	p.insert("Ships & <b>more</b>")
	p.click("#settings button.primary")
	p.sees("main h1", "Ships & <b>more</b>")
	p.sees("#talks", "Ships & <b>more</b>")
	p.click("button[popovertarget=settings]")
	if got := eval[string](p, `document.querySelector("#settings textarea[name=system]").value`); got != "Answer like a pirate." {
		t.Errorf("the settings show the system prompt as %q", got)
	}
	p.click("#settings button.danger")
	p.sees(".notice", "The conversation is deleted.")
	p.until("it is gone from the list", `!document.querySelector("#talks").innerText.includes("Ships")`)
	p.click(".notice button")
	p.sees("main h1", "Ships & <b>more</b>")
	p.sees("#talks", "Ships & <b>more</b>")
	if got := p.answered(); got != "Arr." {
		t.Errorf("the answer came back as %q", got)
	}
}
