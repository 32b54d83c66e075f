package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestOnAPhone(t *testing.T) {
	t.Parallel()
	const long = "open/hf.co/somebody/Some-30B-A3B-Instruct-2507-GGUF:Q4_K_M"
	r := prepareRoom(t)
	r.configure(r.unlisted())
	// Words without a space, as long as one may write them.
	name, word := strings.Repeat("model", 20), strings.Repeat("Donaudampfschiff", 18)
	r.davas.names = append(r.davas.names, strings.TrimPrefix(long, "open/"), name)
	r.start()
	p := r.enter()
	r.furnish(p)
	r.davas.answer("of steamers", "Of "+word)
	r.post("/chat/steamers/messages", map[string]string{"provider": "open", "model": name, "text": "What of steamers? " + word})
	r.post("/chat/steamers/settings", map[string]string{"title": word[:200]})
	r.drop("steamers.md", "---\njob_type: text\nprovider: echo\nmodel: cut\ntitle: "+word+"\n---\n\nx\n")
	r.drop("model.md", "---\njob_type: text\nprovider: echo\nmodel: "+name+"\n---\n\nx\n")
	r.drop(word[:200]+".md", "---\njob_type: text\nprovider: "+word[:112]+"\n---\n\nx\n")
	p.open("/queue")
	p.sees("#recent h3", word)
	p.sees("#recent h3", word[:200])
	p.sees("#recent .reason", name)
	job := eval[string](p, `[...document.querySelectorAll("#recent h3 a")].find((a) => a.innerText === `+quoted(word)+`).pathname`)
	refused := eval[string](p, `[...document.querySelectorAll("h3 a")].find((a) => a.innerText === `+quoted(word[:200])+`).pathname`)
	p.open("/chat/steamers")
	p.sees(".message.assistant .body", word)
	p.size(390, 844, chromedp.EmulateMobile, chromedp.EmulatePortrait, chromedp.EmulateTouch)
	chat := ""
	for _, path := range []string{"/chat", "/queue", job, refused, "/health", "/chat/steamers", "the last conversation"} {
		if path == "the last conversation" {
			path = chat
		}
		p.open(path)
		p.sees("#hosts", "davas")
		if strings.HasPrefix(path, "/chat") {
			p.choose(long)
		}
		if !eval[bool](p, `(() => {
			const host = document.querySelector(".host"), name = document.createRange();
			name.selectNode([...host.childNodes].find((n) => n.textContent.includes("davas")));
			return name.getBoundingClientRect().right <= host.getBoundingClientRect().right;
		})()`) {
			t.Errorf("%s: one cannot read which model server that is", path)
		}
		if wide := eval[[]string](p, `(() => {
			const all = document.documentElement, phone = 390; // innerWidth grows with what is too wide
			if (all.scrollWidth <= phone) return [];
			return [all.scrollWidth + " pixels", ...[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > phone + 1).map((e) => e.cloneNode(false).outerHTML)];
		})()`); len(wide) > 0 {
			t.Errorf("%s is wider than the window: %s", path, strings.Join(wide, "\n"))
		}
		if !strings.HasPrefix(path, "/chat") {
			continue
		}
		if !eval[bool](p, `(() => { const box = document.querySelector("#composer").getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth; })()`) {
			t.Errorf("%s: the composer is not in sight", path)
		}
		if eval[bool](p, `document.querySelector("#sidebar").checkVisibility({ visibilityProperty: true })`) {
			t.Errorf("%s: the conversations lie over the chat", path)
		}
		p.click("header.top .menu")
		p.sees("#sidebar", "Write a Go function")
		if chat == "" {
			code := eval[string](p, `[...document.querySelectorAll("#talks a")].find((a) => a.innerText.includes("Write a Go function")).pathname`)
			p.click("#talks a[href=" + quoted(code) + "]")
			p.has(".code pre")
			chat = eval[string](p, "location.pathname")
			continue
		}
		p.press(kb.Escape)
		p.until("the drawer is closed", `!document.querySelector("#sidebar").checkVisibility({ visibilityProperty: true })`)
	}
	p.send("echo/slow", strings.Repeat("a long line of words ", 60))
	p.until("the end of the answer stays in sight", `(() => { const box = document.querySelector("[data-text]")?.getBoundingClientRect(); return box && box.height > 300 && box.bottom <= document.querySelector("#composer").getBoundingClientRect().top + 40; })()`)
	if box := eval[[]float64](p, `(() => { const b = document.querySelector("button.stop").getBoundingClientRect(); return [b.height, b.width]; })()`); box[0] < 36 || box[1] < 44 {
		t.Errorf("Stop is too small for a thumb: %v", box)
	}
	p.click("header.top .menu")
	p.sees("#sidebar", "Write a Go function")
	p.press(kb.Escape)
	p.until("the drawer is closed", `!document.querySelector("#sidebar").checkVisibility({ visibilityProperty: true })`)
	if p.count("[data-running]") != 1 {
		t.Error("closing the drawer stopped the answer")
	}
	p.click("button.stop")
	p.done()
	eval[bool](p, "(scrollTo(0, 0), true)")
	p.reload()
	p.until("a reload begins at the end", `document.querySelector(".turn") && innerHeight + scrollY >= document.documentElement.scrollHeight - 2`)
}

func TestAnEmptyQueueFitsAPhone(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.size(390, 844, chromedp.EmulateMobile, chromedp.EmulatePortrait, chromedp.EmulateTouch)
	p.open("/queue")
	p.sees("#recent", "The first job")
	if wide := eval[int](p, "document.documentElement.scrollWidth"); wide > 390 {
		t.Errorf("the page is %d pixels wide", wide)
	}
}

func TestInTheDark(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	brightness := func(property string) float64 {
		return eval[float64](p, `(() => { const c = getComputedStyle(document.body).`+property+`.match(/[\d.]+/g).map(Number); return (c[0] + c[1] + c[2]) / 3; })()`)
	}
	for _, path := range []string{"/chat", "/queue", "/health"} {
		p.open(path)
		p.scheme("light")
		if ground, text := brightness("backgroundColor"), brightness("color"); ground < 200 || text > 80 {
			t.Errorf("%s, light: the ground is %v and the text %v of 255", path, ground, text)
		}
		p.scheme("dark")
		if ground, text := brightness("backgroundColor"), brightness("color"); ground > 60 || text < 180 {
			t.Errorf("%s, dark: the ground is %v and the text %v of 255", path, ground, text)
		}
	}
}

// focused describes the element that has the focus, and whether one can see so.
const focused = `(() => {
	const e = document.activeElement;
	if (!e || e === document.body) return { what: "", seen: true };
	const ring = (e) => { const s = getComputedStyle(e); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1; };
	const box = e.getBoundingClientRect();
	const inSight = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
	let ringed = false;
	for (let at = e; at && at !== document.body && !ringed; at = at.parentElement) ringed = ring(at);
	return { what: (e.ariaLabel || e.innerText || e.id || e.name || e.tagName).trim().split("\n")[0], seen: inSight && ringed };
})()`

func TestByKeyboardAlone(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.davas.answer("keyboard", "No mouse was needed.")
	p := r.enter()
	type focus struct {
		What string
		Seen bool
	}
	// Each stop of Tab on the way through a page can be seen.
	for _, path := range []string{"/queue", "/health"} {
		p.open(path)
		p.has("#hosts")
		var order []string
		for range 60 {
			p.press(kb.Tab)
			f := eval[focus](p, focused)
			if f.What == "" || len(order) > 0 && f.What == order[0] {
				break
			}
			order = append(order, f.What)
			if !f.Seen {
				t.Errorf("%s: one cannot see that %q has the focus", path, f.What)
			}
		}
		if want := []string{"Skip to the content", "runner", "Chat", "Queue", "Health", "Sign out"}; len(order) < len(want) || strings.Join(order[:len(want)], "|") != strings.Join(want, "|") {
			t.Errorf("%s: Tab goes to %q", path, order)
		}
	}
	p.open("/queue")
	p.press(kb.Tab)
	p.press(kb.Enter)
	p.until("the skip link leads to the content", `document.activeElement.id === "main"`)
	p.press(kb.Tab)
	if f := eval[focus](p, focused); f.What != "New job" {
		t.Errorf("after the skip link Tab goes to %q", f.What)
	}

	// A message without a mouse: the model, the text, the answer, and Stop.
	p.open("/chat")
	p.until("the composer has the focus", `document.activeElement.id === "text"`)
	p.has("#choice option[value=" + quoted(gemma) + "]")
	p.press(kb.Tab)
	p.until("Tab goes to the models", `document.activeElement.id === "choice"`)
	for range 5 {
		p.press(kb.ArrowDown)
	}
	p.until("the arrows choose", `document.querySelector("#choice").value === `+quoted(gemma))
	p.press(kb.Tab)
	if f := eval[focus](p, focused); f.What != "Send" || !f.Seen {
		t.Errorf("after the models Tab goes to %+v", f)
	}
	p.press(kb.Tab, kb.ModifierShift)
	p.press(kb.Tab, kb.ModifierShift)
	p.insert("By keyboard")
	p.press(kb.Enter)
	p.sees(".body.answer", "No mouse was needed.")
	p.until("the composer has the focus again", `document.activeElement.id === "text"`)
}

// TestAScreenReaderHearsTheEndsAndNoTokens listens to the regions that are read out.
func TestAScreenReaderHearsTheEndsAndNoTokens(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	p := r.enter()
	p.send("echo/echo", "first")
	p.done()
	p.until("the page is at rest", `document.querySelector("#status")`)
	eval[bool](p, `(() => {
		globalThis.heard = [];
		for (const e of document.querySelectorAll("[role=status], [role=alert], [aria-live]")) new MutationObserver(() => { if (e.textContent.trim()) heard.push(e.textContent.trim()); }).observe(e, { childList: true, characterData: true, subtree: true });
		return true;
	})()`)
	p.send(gemma, "second")
	c := r.davas.next()
	for _, word := range strings.Fields("these are a dozen words that nobody wants to hear one by one") {
		c.say(word + " ")
	}
	p.shows("these are a dozen words that nobody wants to hear one by one ")
	if !eval[bool](p, `document.querySelector("[data-running] .assistant").getAttribute("aria-busy") === "true"`) {
		t.Error("the answer is not marked as busy")
	}
	c.end()
	p.done()
	p.until("its end is told", `heard.at(-1) === "The answer is complete"`)
	if heard := eval[[]string](p, "heard"); len(heard) > 6 || strings.Contains(strings.Join(heard, " "), "dozen") {
		t.Errorf("one hears %q", heard)
	}
}
