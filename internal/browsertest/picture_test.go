package browsertest

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestPictures makes the pictures of the README. With -update they are written to
// docs/images.
func TestPictures(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	folder := t.TempDir()
	if *update {
		folder = filepath.Join("..", "..", "docs", "images")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := r.enter()
	p.size(1280, 800)
	p.scheme("light")
	_, err := chromedp.Call(p.ctx, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-GB"})
	p.must(err)
	r.furnish(p)

	p.open("/queue")
	p.sees("#recent", "A week of suppers")
	p.sees(".hosts", "online · gemma3:12b")
	p.keep(folder, "queue.png")
	p.open("/health")
	p.sees("#health", "vault")
	p.sees(".hosts", "online")
	p.keep(folder, "health.png")
	p.open("/chat")
	p.click(`#talks a`)
	p.has(".code pre")
	p.keep(folder, "chat.png")
	p.scheme("dark")
	p.size(390, 844, chromedp.EmulateMobile, chromedp.EmulatePortrait, chromedp.EmulateTouch)
	p.reload()
	p.has(".code pre")
	p.keep(folder, "phone.png")
}

// furnish puts conversations and jobs into the room, as after some days of use.
func (r *room) furnish(p *tab) {
	r.t.Helper()
	r.davas.answer("slug pellets", "Copper tape, a saucer of beer, and a torch at ten in the evening. The hedgehogs do the rest.")
	r.davas.answer("Shakespeare", "*The Tempest*, probably in 1611. It has the fewest words of any that he surely wrote alone, but for the *Comedy of Errors*.")
	for _, text := range []string{"What helps against slugs, without slug pellets?", "Which play did Shakespeare write last?"} {
		p.open("/chat")
		p.send(gemma, text)
		p.answered()
	}
	p.open("/chat")
	p.send(gemma, "Write a Go function that finds the ten oldest photographs in a folder.")
	c := r.davas.next()
	p.until("it thinks for a moment", `parseInt(document.querySelector("[data-elapsed]")?.textContent) >= 1`)
	c.say("Here is one that looks at each file once and never loads a picture:\n\n")
	c.say("```go\n// oldest returns the first n photographs by the time in their names.\nfunc oldest(dir fs.FS, n int) ([]string, error) {\n\tnames, err := fs.Glob(dir, \"IMG_*.jpg\")\n\tif err != nil {\n\t\treturn nil, fmt.Errorf(\"list the photographs: %w\", err)\n\t}\n\tslices.Sort(names) // IMG_20060102_150405: by name is by time\n\treturn names[:min(n, len(names))], nil\n}\n```\n\n")
	c.say("Names that cameras give sort by time already, so **no file is opened**. If some came from another camera, read the EXIF date instead; that costs one short read a file.")
	c.end()
	p.answered()
	for name, note := range map[string]string{
		"suppers.md": "---\njob_type: text\nprovider: echo\ntitle: A week of suppers\ntags: [home]\n---\n\nPlan seven suppers for two, with what is in season in the last week of November.\n",
		"minutes.md": "---\njob_type: chain\nprovider: echo\ntitle: Minutes of the parish meeting\n---\n\nThe notes of the meeting.\n\n## Summary\n\nSummarise in five sentences.\n\n## Tasks\n\nList who has to do what.\n",
		"broken.md":  "---\njob_type: text\nprovider: echo\nmodel: cut\ntitle: Names for the boat\n---\n\nTwenty names for a small blue boat.\n",
		"later.md":   "---\njob_type: text\nprovider: davas\ntitle: Letter to the council\nnot_before: 2099-01-01\n---\n\nDraft a letter about the footbridge.\n",
		"same.md":    "---\njob_type: text\nprovider: echo\nid: bees\ntitle: Bees in winter\n---\n\nWhat do bees eat in winter?\n",
	} {
		r.drop(name, note)
	}
	r.until("the jobs are done", func() bool { return r.count("_completed") == 3 && r.count("_failed") == 1 })
	r.drop("bees-again.md", "---\njob_type: text\nprovider: echo\nid: bees\ntitle: Bees in spring\n---\n\nWhat do bees eat in spring?\n")
	r.drop("river.md", "---\njob_type: text\nprovider: davas\nmodel: gemma3:12b\ntitle: The river in the novel\n---\n\nWhat does the river stand for in the second part?\n")
	c = r.davas.next()
	c.say("In the second part the river has stopped being a border. Whoever crosses it now crosses in both directions,")
}

// keep writes a picture of the window, which must show something.
func (p *tab) keep(folder, name string) {
	p.t.Helper()
	p.until("the letters are there", "document.fonts.ready.then(() => true)")
	data := p.shoot()
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	colours := make(map[[3]uint32]int)
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y += 3 {
		for x := bounds.Min.X; x < bounds.Max.X; x += 3 {
			red, green, blue, _ := picture.At(x, y).RGBA()
			colours[[3]uint32{red >> 12, green >> 12, blue >> 12}]++
		}
	}
	if len(colours) < 8 {
		p.t.Errorf("%s shows %d colours: it is blank", name, len(colours))
	}
	if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
