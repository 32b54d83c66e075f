package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

func TestAConversationIsDeletedUnderAnotherPage(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Tell a long story")
	c := r.davas.next()
	c.say("Once upon a time")
	p.shows("Once upon a time")
	p.write("and then?")
	other := p.beside()
	other.open(eval[string](p, "location.pathname"))
	other.click("button[popovertarget=settings]")
	other.click("#settings button.danger")
	other.sees(".notice", "The conversation is deleted.")
	within(t, "the call at the provider ends", c.gone)
	p.sees(".notice", "The conversation is deleted.")
	p.sees(".notice a[href=\"/chat\"]", "New chat")
	p.until("nothing runs any more", `!document.querySelector("[data-running]") && document.querySelector("button.stop").hidden`)
	p.press(kb.Enter)
	if n := p.count(".turn"); n != 1 {
		t.Errorf("%d messages are shown", n)
	}
	p.click(".notice button")
	p.sees(".body.answer", "Once upon a time")
	p.sees(".turn .notice", "Stopped here")
	p.until("the draft is there", `document.querySelector("#text").value === "and then?"`)
}

// TestWhatWasChosenStaysChosenWhileItIsAway sends no message to anybody else.
func TestWhatWasChosenStaysChosenWhileItIsAway(t *testing.T) {
	t.Parallel()
	r := prepareRoom(t)
	r.configure(r.unlisted())
	r.start()
	p := r.enter()
	p.open("/chat")
	if got := eval[string](p, `document.querySelector("#choice").value`); got != "echo/echo" {
		t.Errorf("where nothing was chosen %s is, not the configuration's first", got)
	}
	away := func(choice string) {
		t.Helper()
		p.open("/chat")
		p.until("the list is new", `[...document.querySelectorAll("#choice optgroup")].some((g) => g.label === "davas — unreachable")`)
		p.until(choice+" is chosen and said to be unreachable",
			`((c) => c.value === `+quoted(choice)+` && c.selectedOptions[0].text.endsWith("unreachable"))(document.querySelector("#choice"))`)
	}
	for _, choice := range []string{"davas/small:1b", "open/small:1b"} {
		p.open("/chat")
		p.choose(choice)
		r.davas.sleep()
		p.until("the page knows that it is away", `[...document.querySelectorAll(".host.down")].some((h) => h.innerText.includes("davas"))`)
		away(choice)
		if choice == "open/small:1b" { // of whose models nobody knows after a start
			p.allowLoss()
			p.allow("^network: .*401")
			r.kill()
			r.start()
			p.open(r.link())
			away(choice)
		}
		p.write("Are you there?")
		p.press(kb.Enter)
		p.sees("[data-phase]", "cannot be reached since")
		r.davas.wake()
		c := r.davas.next()
		c.say("Here")
		c.end()
		if got := p.answered(); got != "Here" {
			t.Errorf("the answer is shown as %q", got)
		}
		p.sees(".turn .message.assistant header", strings.Split(choice, "/")[0])
	}
	p.open("/chat")
	eval[bool](p, `(localStorage.setItem("runner:choice", "gone/model"), true)`)
	p.reload()
	p.until("a choice that nobody has stays, and is said to be none",
		`((c) => c.value === "gone/model" && c.selectedOptions[0].text.endsWith("not configured"))(document.querySelector("#choice"))`)
	p.allow("^network: .*422")
	p.write("Anybody?")
	p.press(kb.Enter)
	p.sees("#composer [data-error]", `the provider "gone" is not configured`)
}
