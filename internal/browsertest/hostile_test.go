package browsertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// intruders are elements and attributes that no page of ours has: scripts of
// others, handlers, forms and links that lead where they must not, and whatever
// loads by itself.
const intruders = `(() => {
	// #text gets its height by our own script.
	const own = (path) => path === null || (path.startsWith("/") && !path.startsWith("//"));
	const bad = [];
	for (const e of document.querySelectorAll("*")) {
		const tag = e.localName;
		let why = "";
		if (["img", "iframe", "object", "embed", "base", "style", "svg", "math", "video", "audio", "source", "frame", "marquee", "template"].includes(tag)) why = "element";
		if (tag === "script" && !(own(e.getAttribute("src")) && e.src)) why = "script";
		if (["link", "meta", "title"].includes(tag) && !document.head.contains(e)) why = "element";
		for (const a of e.attributes) if (e.id !== "text" && /^on|^style$|^srcdoc$|^hx-on|^data-hx-on/i.test(a.name)) why = a.name;
		if (tag === "form" && !own(e.getAttribute("action"))) why = "action";
		if (e.hasAttribute("formaction") && !own(e.getAttribute("formaction"))) why = "formaction";
		for (const name of ["hx-get", "hx-post", "hx-sse:connect"]) if (!own(e.getAttribute(name))) why = name;
		if (e.closest(".body") && (e.id || [...e.attributes].some((a) => a.name.startsWith("hx-")))) why = "attributes";
		if (tag === "a" && !["http:", "https:", "mailto:", "obsidian:"].includes(e.protocol)) why = "href";
		if (why) bad.push(why + ": " + e.outerHTML.slice(0, 200));
	}
	return bad;
})()`

func payloads(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("../web/render/testdata/payloads.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n%%\n")
	if len(all) < 50 {
		t.Fatalf("%d payloads", len(all))
	}
	return all
}

// halves are a text cut in two at each place where runes meet, one after another.
func halves(text string) []string {
	var all []string
	for i := range text {
		if i > 0 {
			all = append(all, text[:i], text[i:], "\n\n")
		}
	}
	return all
}

// pieces are a text in pieces of three bytes, or more where a rune is longer.
func pieces(text string) []string {
	var all []string
	for text != "" {
		n := min(3, len(text))
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		all, text = append(all, text[:n]), text[n:]
	}
	return all
}

// post sends JSON as a program does, with the link's token.
func (r *room) post(path string, v any) {
	r.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	r.until("the room takes "+path, func() bool {
		q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.base()+path, bytes.NewReader(data))
		if err != nil {
			r.t.Fatal(err)
		}
		link, err := url.Parse(r.link())
		if err != nil {
			r.t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Accept", "application/json")
		q.Header.Set("Authorization", "Bearer "+link.Query().Get("token"))
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			r.t.Fatal(err)
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK, http.StatusAccepted, http.StatusCreated:
			return true
		case http.StatusConflict: // the last answer is still under way
			return false
		}
		r.t.Fatalf("%s: %s", path, resp.Status)
		return false
	})
}

// harmless fails the test for each intruder of the page.
func (p *tab) harmless(what string) {
	p.t.Helper()
	for _, bad := range eval[[]string](p, intruders) {
		p.t.Errorf("%s: %s", what, bad)
	}
}

func TestWhatModelsAndPeopleSayIsText(t *testing.T) {
	t.Parallel()
	var all []string // two at a time
	for two := range slices.Chunk(payloads(t), 2) {
		all = append(all, strings.Join(two, "\n\n"))
	}
	r := newRoom(t)
	p := r.enter()
	for i, payload := range all {
		cut := pieces(payload)
		if i%12 == 0 { // and a handful at each place there is
			cut = append(cut, append([]string{"\n\n"}, halves(payload)...)...)
		}
		r.davas.answer(fmt.Sprintf("payload %d.", i), append([]string{payload, "\n\n"}, cut...)...)
	}
	r.post("/chat/hostile/messages", map[string]string{"provider": "davas", "model": "gemma3:12b", "text": "payload 0. " + all[0]})
	p.open("/chat/hostile")
	for i, payload := range all {
		if i > 0 {
			r.post("/chat/hostile/messages", map[string]string{"provider": "davas", "model": "gemma3:12b", "text": fmt.Sprintf("payload %d. %s", i, payload)})
		}
		p.until("the answer is shown", fmt.Sprintf("document.querySelector('#turn-%d:not([data-running]) .body.answer')", i+1))
	}
	p.harmless("answers as they came")
	p.reload()
	for shown := p.count(".turn"); shown < len(all); shown = p.count(".turn") {
		p.click(".more button")
		// Not all that comes is put in at once.
		p.until("more is shown", fmt.Sprintf("((n) => n === %d || n > %d && document.querySelector('.more button'))(document.querySelectorAll('.turn').length)", len(all), shown))
	}
	p.harmless("answers as they are read again")
	if n := p.count(".message.user .body"); n != len(all) {
		t.Errorf("%d messages are shown of %d", n, len(all))
	}
	if last := p.text(fmt.Sprintf("#turn-%d .message.user .body", 6)); !strings.Contains(last, all[5]) {
		t.Errorf("a message is not shown as it was sent: %q", last)
	}
}

func TestTitlesReasonsAndNamesAreText(t *testing.T) {
	t.Parallel()
	all := payloads(t)
	r := prepareRoom(t)
	r.configure(r.unlisted())
	r.davas.names = append(r.davas.names, all...)
	r.start()
	p := r.enter()
	p.open("/queue")
	for i, payload := range all {
		if i%3 > 0 { // what renders them is the same for all
			continue
		}
		id := fmt.Sprintf("t-%d", i)
		line := strings.ReplaceAll(payload, "\n", " ")
		r.post("/chat/"+id+"/messages", map[string]string{"provider": "echo", "model": "echo", "text": payload})
		r.post("/chat/"+id+"/settings", map[string]string{"title": line[:min(len(line), 190)], "system": payload})
		title, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		r.drop(fmt.Sprintf("j%d.md", i), fmt.Sprintf("---\njob_type: text\nprovider: echo\ntitle: %s\n---\n\n%s\n", title, payload))
	}
	r.drop("<img src=x onerror=alert(1)>.md", "---\njob_type: text\nprovider: echo\nmodel: cut\n---\n\n<img src=x onerror=alert(1)>\n")
	idle := func() bool { return r.count("_queue")+r.count("_active") == 0 }
	r.until("the jobs are done", idle)
	for i := range 5 { // reasons that a provider gives
		r.drop(fmt.Sprintf("f%d.md", i), fmt.Sprintf("---\njob_type: text\nprovider: davas\nmodel: gemma3:12b\n---\n\nFail %d.\n", i))
		r.davas.next().fail(all[i*3])
	}
	r.until("the jobs are done", idle)
	p.sees("#recent .reason", "alert(1)")
	p.harmless("the queue as it came")
	p.reload()
	for i := range 3 {
		p.click("#recent details:not([open]) > summary")
		p.until("the preview is there", fmt.Sprintf(`document.querySelectorAll("#recent details[open] .preview > :not(a)").length >= %d`, i+1))
	}
	p.harmless("the queue")
	p.click("#recent h3 a")
	p.sees("main", "Calls")
	p.harmless("a job")
	p.open("/chat/t-3")
	p.until("the models are listed", fmt.Sprintf(`document.querySelectorAll("#choice option").length >= %d`, len(all)))
	p.until("the conversations are listed", fmt.Sprintf(`document.querySelectorAll("#talks a").length >= %d`, min(50, len(all)/3)))
	p.harmless("a chat")
	p.open("/health")
	p.sees("#health", "provider davas")
	p.harmless("health")
}
