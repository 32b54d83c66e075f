package static

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
)

type rgb [3]float64

// mixed is part of c over another colour, as color-mix in srgb makes it.
func (c rgb) mixed(part float64, over rgb) (m rgb) {
	for i := range c {
		m[i] = part*c[i] + (1-part)*over[i]
	}
	return m
}

// contrast is WCAG 2's, from 1 to 21.
func contrast(a, b rgb) float64 {
	luminance := func(c rgb) (sum float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			v := c[i] / 255
			if v <= 0.03928 {
				sum += weight * v / 12.92
			} else {
				sum += weight * math.Pow((v+0.055)/1.055, 2.4)
			}
		}
		return sum
	}
	light, dark := luminance(a), luminance(b)
	return (max(light, dark) + 0.05) / (min(light, dark) + 0.05)
}

var declared = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)

// WCAG 2 at level AA asks for 4.5 for text and for 3 for a control's edge.
func TestColoursStandOut(t *testing.T) {
	sheet, err := embedded.ReadFile("app.css")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(sheet), ":root {", 4)
	if len(parts) != 4 {
		t.Fatal("the sheet has no light and dark :root")
	}
	for scheme, rules := range map[string]string{"light": parts[1], "dark": parts[2]} {
		colours := map[string]rgb{}
		for _, d := range declared.FindAllStringSubmatch(rules, -1) {
			var r, g, b uint8
			if _, err := fmt.Sscanf(d[2], "#%02x%02x%02x", &r, &g, &b); err != nil {
				t.Fatal(err)
			}
			colours[d[1]] = rgb{float64(r), float64(g), float64(b)}
		}
		check := func(text, on string, ground rgb, least float64) {
			if got := contrast(colours[text], ground); got < least {
				t.Errorf("%s: %s on %s is %.2f to 1, want %.1f", scheme, text, on, got, least)
			}
		}
		for _, on := range []string{"ground", "surface", "sunken", "tint"} {
			for _, text := range []string{"text", "muted", "accent"} {
				check(text, on, colours[on], 4.5)
			}
		}
		for _, on := range []string{"ground", "surface"} {
			check("edge", on, colours[on], 3)
			for _, tone := range []string{"ok", "warn", "bad", "info", "hold"} {
				check(tone, on, colours[on], 4.5)
			}
		}
		for _, tone := range []string{"ok", "warn", "bad", "info", "hold", "muted", "accent"} {
			check(tone, "its own tint", colours[tone].mixed(0.12, colours["surface"]), 4.5)
		}
		check("on-accent", "accent", colours["accent"], 4.5)
	}
}
