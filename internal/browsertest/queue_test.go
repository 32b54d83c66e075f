package browsertest

import (
	"strings"
	"testing"
)

func TestAJobIsHandedInAndSeenToComplete(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/queue")
	p.sees("#recent", "The first job") // the empty page teaches it
	p.unfold("#new-job")
	p.has("#job-choice option[value=" + quoted(gemma) + "]")
	p.click("#job-title")
	p.insert("Hedgehogs")
	eval[bool](p, `(document.querySelector("#job-choice").value = `+quoted(gemma)+`) !== ""`)
	p.click("#job-body")
	p.insert("Where do hedgehogs sleep?")

	// What is wrong is said beside its field, in words, and nothing that was typed is lost.
	p.unfold("#new-job details.settings")
	p.click("#job-temperature")
	p.insert("9")
	p.allow(`^network: .*status of 422`)
	p.click("#new-job button[type=submit]")
	p.sees("#job-temperature-error", "between 0 and 2")
	p.until("the field is marked and has the focus", `document.activeElement.id === "job-temperature" && document.activeElement.getAttribute("aria-invalid") === "true"`)
	if n := r.count("_queue"); n != 0 {
		t.Errorf("%d notes were written", n)
	}
	p.until("what was typed is there", `document.querySelector("#job-body").value === "Where do hedgehogs sleep?" && document.querySelector("#job-title").value === "Hedgehogs"`)

	// What is mended is no longer complained of, also where something else is wrong.
	eval[string](p, `document.querySelector("#job-temperature").value = "1"`)
	p.click("#job-max_tokens")
	p.insert("-1")
	p.click("#new-job button[type=submit]")
	p.sees("#job-max_tokens-error", "1")
	p.until("only the other field is marked", `document.activeElement.id === "job-max_tokens" && document.querySelectorAll("#new-job [aria-invalid]").length === 1`)
	if got := p.text("#job-temperature-error"); eval[bool](p, `document.querySelector("#job-temperature-error").checkVisibility()`) {
		t.Errorf("beside the temperature stands still %q", got)
	}

	eval[string](p, `document.querySelector("#job-max_tokens").value = ""`)
	p.click("#new-job button[type=submit]")
	c := r.davas.next()
	p.sees("#active .job", "Hedgehogs")
	eval[bool](p, "globalThis.sameDocument = true")
	c.say("Under a hedge,")
	p.sees("#active .live", "Under a hedge,")
	p.until("its age ticks", `/^\d+ s$/.test(document.querySelector("#active time[data-since]")?.textContent)`)
	c.say(" mostly.")
	p.sees("#active .live", "Under a hedge, mostly.")
	c.end()
	p.sees("#recent .job", "Hedgehogs")
	p.sees("#recent .state", "completed")
	p.sees("#active", "Nothing runs now")
	p.click("#recent details > summary")
	p.sees("#recent .preview", "Under a hedge, mostly.")
	if !eval[bool](p, "globalThis.sameDocument === true") {
		t.Error("the page was loaded anew meanwhile")
	}
	p.click("#recent h3 a")
	p.sees("h1", "Hedgehogs")
	p.sees("table", "gemma3:12b")
}

func TestAHeldNoteIsRunOrDiscarded(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/queue")
	first := "---\njob_type: text\nprovider: echo\nid: lakes\ntitle: Lakes\n---\n\nName a lake.\n"
	r.drop("lakes.md", first)
	p.sees("#recent .job", "Lakes")
	r.drop("more.md", strings.NewReplacer("Lakes", "More lakes", "a lake", "two lakes").Replace(first))
	r.drop("other.md", strings.NewReplacer("Lakes", "Other lakes", "a lake", "three lakes").Replace(first))
	p.sees("#waiting .state", "held")
	p.sees("#waiting .reason", "it has the id of job lakes, which is completed")
	p.click(`[aria-label="Run More lakes"]`)
	p.sees("#recent .job", "More lakes")
	p.click(`[aria-label="Discard Other lakes"]`)
	p.until("the note is discarded", `!document.querySelector("#waiting").innerText.includes("Other lakes")`)
	r.until("its note is moved", func() bool { return r.count("_failed") == 1 && r.count("_queue") == 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) != 1 || !strings.Contains(p.asked[0], "Other lakes") {
		t.Errorf("the page asked %q", p.asked)
	}
}

func TestAFailedJobIsRunAgain(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/queue")
	r.drop("tale.md", "---\njob_type: text\nprovider: davas\nmodel: gemma3:12b\ntitle: A tale\n---\n\nTell a tale.\n")
	r.davas.next().fail("the tale is too sad")
	p.sees("#recent .reason", "the tale is too sad")
	if first := p.text("#recent .job > :nth-child(2)"); !strings.Contains(first, "too sad") {
		t.Errorf("the reason does not come first, but %q", first)
	}
	p.click(`[aria-label="Retry A tale"]`)
	c := r.davas.next()
	p.sees("#active .job", "A tale")
	c.say("A happy one.")
	c.end()
	p.sees("#recent .state", "completed")
	p.until("it failed no more", `!document.querySelector("#recent .state.failed")`)
}

func TestAJobIsCancelled(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.open("/queue")
	r.drop("epic.md", "---\njob_type: text\nprovider: davas\nmodel: gemma3:12b\ntitle: An epic\n---\n\nWrite an epic.\n")
	c := r.davas.next()
	c.say("Sing, o goddess")
	p.sees("#active .live", "Sing, o goddess")
	p.click(`[aria-label="Cancel An epic"]`)
	within(t, "the call at the provider ends", c.gone)
	p.sees("#recent .state", "cancelled")
}
