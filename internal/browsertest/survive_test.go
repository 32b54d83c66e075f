package browsertest

import (
	"strings"
	"testing"
)

// TestAReloadLosesNothing reloads while the answer is written, and once more when a
// part came while no page was there.
func TestAReloadLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Name three trees")
	c := r.davas.next()
	c.say("Oak,")
	p.shows("Oak,")
	p.reload()
	p.shows("Oak,")
	c.say(" ash")
	p.shows("Oak, ash")
	where := eval[string](p, "location.pathname")
	p.open("/health") // away
	c.say(" and elm")
	p.open(where)
	p.shows("Oak, ash and elm")
	c.say(".")
	c.end()
	if got := p.answered(); got != "Oak, ash and elm." {
		t.Errorf("the answer is shown as %q", got)
	}
	p.reload()
	if got := p.answered(); got != "Oak, ash and elm." || p.count(".turn") != 1 || p.count(".body.answer") != 1 {
		t.Errorf("%d messages, answered with %q", p.count(".turn"), got)
	}
	select {
	case <-r.davas.calls:
		t.Error("the provider was asked again")
	default:
	}
}

func TestASecondTabFollows(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	one := r.enter()
	one.send(gemma, "Name a bird")
	c := r.davas.next()
	c.say("A wren")
	one.shows("A wren")
	two := one.beside()
	two.open(eval[string](one, "location.pathname"))
	two.shows("A wren")
	c.say(", or a robin")
	one.shows("A wren, or a robin")
	two.shows("A wren, or a robin")
	c.end()
	if a, b := one.answered(), two.answered(); a != b || a != "A wren, or a robin" {
		t.Errorf("one shows %q, the other %q", a, b)
	}
	// What one tab asks, the other shows.
	two.send(gemma, "And a fish")
	c = r.davas.next()
	c.say("A pike")
	one.shows("A pike")
	one.click("button.stop") // and each can stop it
	within(t, "the call ends", c.gone)
	two.done()
	one.done()
	if a, b := one.text(".messages"), two.text(".messages"); a != b {
		t.Errorf("one shows\n%s\nthe other\n%s", a, b)
	}
}

func TestHistoryIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send("echo/echo", "Remember the milk")
	before := p.answered()
	p.allowLoss()
	r.Terminate()
	p.sees("#connection", "Trying again")
	r.start()
	p.until("the page is connected again", `document.querySelector("#connection").hidden`)
	p.reload() // still signed in
	if got := p.answered(); got != before || !strings.Contains(got, "Remember the milk") {
		t.Errorf("the answer is shown as %q, it was %q", got, before)
	}
	p.sees("#talks", "Remember the milk")
	p.send("echo/echo", "And the bread")
	if got := p.answered(); !strings.Contains(got, "milk") || !strings.Contains(got, "bread") {
		t.Errorf("the model was told %q", got)
	}
}

func TestWhatWasShownSurvivesAKill(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send(gemma, "Tell a tale")
	c := r.davas.next()
	c.say("There was a king ")
	c.say("who had three sons")
	p.shows("There was a king who had three sons")
	p.allowLoss()
	r.kill()
	p.sees("#connection", "Trying again")
	r.start()
	// The page is not touched: it finds its way back.
	p.sees(".turn .notice", "Interrupted")
	if got := p.answered(); got != "There was a king who had three sons" {
		t.Errorf("what was shown is now %q", got)
	}
	p.until("the page is connected again", `document.querySelector("#connection").hidden`)
	p.click("form.again button")
	c = r.davas.next()
	c.say("Once more.")
	p.shows("Once more.")
	c.end()
	if got := p.answered(); got != "Once more." {
		t.Errorf("asked again it shows %q", got)
	}
}

// TestAStreamThatFellAsleepIsTakenUp has a page set its stream aside, as one that is
// hidden does, and never hear that it is seen again.
func TestAStreamThatFellAsleepIsTakenUp(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/queue")
	p.until("the stream is read", `document.querySelector("#stream")._htmx?.sse?.reader`)
	eval[bool](p, `(() => {
		Object.defineProperty(document, "hidden", { value: true, configurable: true });
		document.dispatchEvent(new Event("visibilitychange"));
		delete document.hidden;
		document.querySelector("#stream").dataset.silence = 1;
		return true;
	})()`)
	r.davas.sleep()
	p.sees("#hosts", "davas unreachable since ")
}
