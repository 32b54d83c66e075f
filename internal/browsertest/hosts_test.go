package browsertest

import "testing"

// TestDavasGoesAwayAndComesBack looks at pages that nobody reloads.
func TestDavasGoesAwayAndComesBack(t *testing.T) {
	r := newRoom(t)
	first := r.enter()
	pages := map[string]*tab{"/chat": first, "/queue": first.beside(), "/health": first.beside()}
	everywhere := func(words string) {
		t.Helper()
		for _, p := range pages {
			p.sees("#hosts", words)
		}
	}
	for path, p := range pages {
		p.open(path)
		eval[bool](p, "globalThis.sameDocument = true")
	}
	everywhere("davas online")
	r.davas.sleep()
	everywhere("davas unreachable since ")
	pages["/health"].sees("#health .down", "provider davas")
	pages["/health"].sees("#health .down", "What to do")
	// The picker shows it as such, and puts nothing in its place.
	pages["/chat"].until("the picker shows it as unreachable", `[...document.querySelectorAll("#choice optgroup")].some((g) => g.label === "davas — unreachable" && g.querySelector("option[value='davas/gemma3:12b']"))`)
	r.davas.wake()
	everywhere("davas online")
	pages["/chat"].until("the picker shows it as there", `[...document.querySelectorAll("#choice optgroup")].some((g) => g.label === "davas")`)
	for path, p := range pages {
		if !eval[bool](p, "globalThis.sameDocument === true") {
			t.Errorf("%s was loaded anew meanwhile", path)
		}
	}
}
